"""Names of the dataset contract, its check, and the errors and warnings of the package.

A captured run is a plain :class:`xarray.Dataset`; this module is the one place that spells the names of its
dimensions, coordinates, variables and attributes. Dimensions are used **by name**, never by position.
:func:`validate` checks everything below and lists every problem it finds.

Coordinates
-----------
=====================  ============  ==================================================================================
name                   dimension     values
=====================  ============  ==================================================================================
``sample``             ``sample``    integers 0, 1, 2, ...
``seed``               ``sample``    integers >= 0: the seed of the sample's noise
``prompt``             ``sample``    strings; only when ``kind`` is ``"generate"``, and not beside the space of that
                                     name, because one dataset holds one thing of a name (``attrs["prompt"]`` has it)
``timestep``           ``timestep``  floats in (0, 1000], strictly decreasing: 1000 x sigma
``sigma``              ``timestep``  floats: how noisy, ``timestep / 1000`` unless ``attrs["process"]`` says otherwise
``step``               ``timestep``  integers >= 0, strictly increasing: index in the schedule that was run
``layer``              ``layer``     integers >= 0, strictly increasing: the block's index in the model
``block``              ``layer``     ``"dual"`` or ``"single"``; dual blocks come first
``module``             ``layer``     strings: the name of the block's module
``head``               ``head``      integers >= 0, strictly increasing
``branch``             ``branch``    ``"conditional"``, ``"unconditional"``: where both branches of classifier-free
                                     guidance are recorded, and behind ``layer`` in all that comes in pieces
``concept``            ``concept``   strings, not blank, no two alike
``token``              ``token``     strings: the prompt's real tokens, no padding (space ``prompt`` only)
``position``           ``token``     integers >= 0, strictly increasing: the token's place in the text sequence
``text``               ``text``      integers 0, 1, 2, ...: place in the text sequence (with ``text_mass`` only)
``padding``            ``text``      booleans: after the prompt's own tokens and its end of text
``item``               ``item``      integers >= 0: the image's place in the call (of many images only; first in all
                                     variables)
``name``               ``item``      strings: what the image is called
``run``                ``item``      strings: key of the item's own stored run
``image_hash``         ``item``      strings: as the attribute of a run of one image, which is then ``""``
``prompt``             ``item``      strings: as the attribute of a run of one image, which is then ``""``. Only where
                                     items have different prompts
``asked``              item,         booleans: whether the concept was asked of the item; of the others all scores are
                       concept       NaN and masks false. Only where items were asked different concepts
``order``              item,         integers: place of the concept among those that the item was asked, -1 where it was
                       concept       not; beside ``asked``
``frame``              ``frame``     numbers, increasing: the middle of each latent frame, in frames of the picture
                                     (of a video only; before ``y`` in all that has it)
``y``, ``x``           itself        floats: patch centres in pixels
``pixel_y, pixel_x``   itself        integers 0, 1, 2, ...: pixel centres
``channel``            ``channel``   ``"r"``, ``"g"``, ``"b"``
=====================  ============  ==================================================================================

Pixel centres lie on whole numbers: patch ``i`` of side ``p`` covers the pixels ``p*i`` to ``p*i + p - 1`` and its
centre is ``p*i + (p - 1) / 2`` (:func:`patch_centres`; with ``p = 8``: 3.5, 11.5, 19.5, ...), so an image and a map
share their axes.

Variables
---------
===============================  ===================================================  ==================================
name                             dimensions                                           dtype
===============================  ===================================================  ==================================
``<space>``                      sample, timestep, layer, head, concept, y, x         float32, to 1/2048 under 512;
                                                                                      float16 in runs of earlier capture
                                                                                      versions
``<space>_total``                sample, timestep, layer, concept, y, x               float32: summed over heads before
                                                                                      rounding
``prompt``, ``prompt_total``     the same with ``token`` in place of ``concept``      the same
``image``                        pixel_y, pixel_x, channel (``"generate"``: behind    uint8
                                 ``sample``)
``truth``                        concept, pixel_y, pixel_x (optional)                 bool
``void``                         pixel_y, pixel_x (optional, beside ``truth``):       bool
                                 pixels that count for nothing and against nothing
``lse_image``, ``lse_concept``   sample, timestep, layer, head, concept (optional)    float32
``text_mass``                    sample, timestep, layer, head, text (optional): the  float32
                                 image's attention to each text token, averaged over
                                 patches
===============================  ===================================================  ==================================

In a run of many images all of them have the dimension ``item`` before these.

Attributes
----------
Plain values that JSON can hold, because they are stored as zarr attributes. More may be added. Files of other formats
hold fewer kinds of values: :func:`pack_attributes` writes true and false as 1 and 0 and what is nested as JSON, and
:func:`read_attributes`, which :func:`validate` and all readers of this package use, gives the plain values back.

====================  ==================  =============================================================================
name                  type                meaning
====================  ==================  =============================================================================
``schema_version``    int                 :data:`SCHEMA_VERSION`; earlier ones are upgraded when a run is opened
``capture_version``   int                 :data:`CAPTURE_VERSION` of the code that made the run
``kind``              str                 ``"capture"`` (of a real image) or ``"generate"``
``model``             str                 name of the model: that of its repository or folder, or the class of a
                                          pipeline object that has neither
``model_from``        str (optional)      one of :data:`MODEL_ORIGINS`
``model_revision``    str                 revision of the weights; ``""`` when unknown
``prompt``            str, list of str    the prompt; a list has one for each sample
``pool``              str                 one of :data:`POOLS`
``attend``            str                 one of :data:`ATTEND_MODES`
``spaces``            list of str         the captured spaces, from :data:`SPACES`
``seeds``             list of int         the seed of each sample
``text_length``       int                 length of the text encoder's sequence, in tokens
``image_hash``        str                 hash of the processed picture that was encoded; ``""`` for ``"generate"``
``size``              list of 2 int       height and width of the processed image, in pixels
``patch``             int                 side of a patch, in pixels
``default_layers``    list of int         layers of a heat map when none are given; written by the model adapter
``head_count``        int                 heads that ``<space>_total`` is the sum of (not in runs of early versions; the
                                          store adds it when it opens them)
``steps``             int                 length of the schedule (``"generate"`` only), of which only the last steps ran
                                          where ``inputs`` has a ``strength``
``guidance``          number or None      guidance scale; None when the model takes none (``"generate"`` only)
``branch``            str                 of guidance: ``"conditional"`` (also where it is absent), ``"unconditional"``
                                          or ``"both"`` (``"generate"`` only)
``family``            str                 the model's family, where another distribution brings it
``family_from``       str                 that distribution, with its version
``process``           str                 how noise is added, where it is not by a flow
``device``            str                 kind of device that computed it, for information
``threads``           int                 torch's threads on the CPU, for information
``versions``          str                 JSON object: library -> version, for information
``created``           str                 time of the run, ISO 8601 with its zone
``interventions``     list of dict        edits of the network, as :meth:`workbench.interventions.Intervention.as_dict`
                                          gives it; only where there are any
``edit``              str                 the same in words; only where there are any
``inputs``            dict                further inputs of the pipeline's call by name: numbers as they are, images as
                                          ``{"image": hash, "size": [height, width]}``, tensors as ``{"tensor": hash,
                                          "dtype": ..., "shape": ...}``; only where there are any
``left_out``          str                 what attends beside patches and text and is not recorded; only where there is
                                          anything
``role``              str                 one of :data:`ROLES`; only in a run that was made for an experiment, or as an
                                          item of a run of many images
``parent``            str                 key of the run that such a run belongs to; ``""`` for an experiment's own
                                          baseline
``failed``            list of dict        images that could not be captured, as ``{"name": "a", "error": "..."}``; only
                                          in a run of many images, where there are any
``missing``           list of dict        pieces that do not exist, as ``{"sample": 0, "timestep": 500.0, "layer": 3}``
                                          by coordinate value; every score of such a piece is NaN
====================  ==================  =============================================================================
"""

from workbench.schema.attributes import pack_attributes as pack_attributes
from workbench.schema.attributes import read_attributes as read_attributes
from workbench.schema.checking import validate as validate
from workbench.schema.dataset_names import *
from workbench.schema.errors import *
from workbench.schema.notes import noted as noted
from workbench.schema.notes import warn as warn
from workbench.schema.per_item import PerItem as PerItem
from workbench.schema.single_item import item_at as item_at
from workbench.schema.single_item import item_name as item_name
from workbench.schema.single_item import of_item as of_item
from workbench.schema.upgrading import upgraded as upgraded
