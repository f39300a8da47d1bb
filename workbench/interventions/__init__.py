"""Edits to a network, as plain descriptions: what is changed, in which blocks, at which timesteps.

A description is frozen, checks itself, can be written as JSON (:meth:`Intervention.as_dict`, :func:`read`) and knows no
model. ``capture``, ``generate`` and ``trace`` take one or several as ``interventions=``; they are carried out in the
order of the network (text, attention, heads, block), and at one place in the order given. Hooks do it, the model stays
as it is. Each says where its effect first shows (:meth:`Intervention.reaches`): one inside a block from its own layer
on, one of what a block gives strictly behind it.

Everywhere: ``layers`` are depths, dual-stream blocks first (a number, several, or a slice with both ends included; None
for all); ``heads`` likewise; ``tokens`` are places in the text sequence, padding behind the prompt, or words of the
prompt; ``timesteps`` is a range ``(low, high)`` in 1000 x sigma with both ends included, in either order, None for all.
Edits of the prompt (:class:`NullText`, :class:`Amplify`, :class:`MaskText`, :class:`BlurAttention`) and those that need
another run (:class:`MeanHeads`, :class:`Patch`) leave the unconditional passes of classifier-free guidance alone.
"""

from workbench.interventions.describing import Amplify as Amplify
from workbench.interventions.describing import AttendMode as AttendMode
from workbench.interventions.describing import BlurAttention as BlurAttention
from workbench.interventions.describing import DropConcept as DropConcept
from workbench.interventions.describing import Each as Each
from workbench.interventions.describing import Intervention as Intervention
from workbench.interventions.describing import MaskText as MaskText
from workbench.interventions.describing import MeanHeads as MeanHeads
from workbench.interventions.describing import NullText as NullText
from workbench.interventions.describing import Patch as Patch
from workbench.interventions.describing import ScaleHeads as ScaleHeads
from workbench.interventions.describing import SkipBlock as SkipBlock
from workbench.interventions.edits_in_words import edit_of as edit_of
from workbench.interventions.edits_in_words import in_words as in_words
from workbench.interventions.edits_in_words import layers_in_words as layers_in_words
from workbench.interventions.fields import ITSELF as ITSELF
from workbench.interventions.fields import Source as Source
from workbench.interventions.random_direction import RandomDirection as RandomDirection
from workbench.interventions.records import Given as Given
from workbench.interventions.records import read as read
