"""What every model family has to keep to, as plain functions that raise with a sentence.

A family is right when a concept goes through its blocks as a token of the text would, and when looking changes nothing.
None of that needs trained weights: a tiny model with random ones shows it in milliseconds. The tests of the families of
this package call these functions, so can those of yours::

    from workbench.contract import Case, check

    check(Case(transformer, inputs))  # or one rule: prompt_is_its_own_concepts(case)

:data:`RULES` has them by name. :func:`.check_model` tries them on a whole pipeline with real weights, and
:mod:`.pipelines` has the rules about pipelines.
"""

from workbench.contract.case import Case as Case
from workbench.contract.edits import edits_land_where_they_say as edits_land_where_they_say
from workbench.contract.model_check import check_model as check_model
from workbench.contract.report import Report as Report
from workbench.contract.rules import attention_is_rebuilt as attention_is_rebuilt
from workbench.contract.rules import concepts_are_apart as concepts_are_apart
from workbench.contract.rules import heads_make_the_whole as heads_make_the_whole
from workbench.contract.rules import layers_are_all_there as layers_are_all_there
from workbench.contract.rules import masked_text_is_unseen as masked_text_is_unseen
from workbench.contract.rules import model_is_left_as_it_was as model_is_left_as_it_was
from workbench.contract.rules import order_of_concepts_is_free as order_of_concepts_is_free
from workbench.contract.rules import picture_is_untouched as picture_is_untouched
from workbench.contract.rules import prompt_is_its_own_concepts as prompt_is_its_own_concepts
from workbench.contract.trying import RULES as RULES
from workbench.contract.trying import Tried as Tried
from workbench.contract.trying import check as check
from workbench.contract.trying import tried as tried
