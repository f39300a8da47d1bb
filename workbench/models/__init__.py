"""Model families: where their tensors are, and how to feed them.

A family that this package does not know takes one module and no change here. The module has a :class:`.Family`, an
adapter of the transformer and, for ``capture`` and ``generate``, one of the pipeline; an entry point of the
distribution names the family::

    [project.entry-points."workbench.families"]
    mine = "my_family:FAMILY"

What such a module imports from here, and from nowhere else in this package, stays under its name:

- :class:`.Family`, :class:`.Licence`: a family as data; :func:`.register` uses one without installing it;
- :class:`.TransformerAdapter`, :class:`.JointAdapter` (blocks of joint attention, of which a family says only where
  tensors appear: :class:`.Tap`, :class:`.Taps`, :func:`.numbered`), and what passes between an adapter and recording:
  :class:`.Layer`, :class:`.Concepts`, :class:`.ConceptStream`, :class:`.BlockCall`, :class:`.Projection`,
  :class:`.Hooks`, :func:`.for_batch`, :func:`.by_name`;
- :class:`.PipelineAdapter`, :class:`.ScaledLatents` (for an ``AutoencoderKL``), and what they give: :class:`.Text`,
  :class:`.Schedule` (:func:`.checked_schedule`), :class:`.Posterior`, :class:`.TextReader`, :class:`.Branch`
  (:func:`.in_passes`, :func:`.in_batch`, :func:`.by_true_guidance`, :func:`.refuse_true_guidance`), :func:`.rgb`.

To be loaded by name, the pipeline adapter's module has the pipeline's class where diffusers has none of that name, and
beside a transformer class of one's own ``ModelMixin``, which diffusers looks for there.

Names are imported when first used; :class:`.Family` needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
