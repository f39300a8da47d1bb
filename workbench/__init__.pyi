from . import accessor as accessor
from . import figures as figures
from .evaluation.harness import evaluate as evaluate
from .experiments.running import intervene as intervene
from .experiments.running import vital_layers as vital_layers
from .interventions import Amplify as Amplify
from .interventions import AttendMode as AttendMode
from .interventions import BlurAttention as BlurAttention
from .interventions import DropConcept as DropConcept
from .interventions import MaskText as MaskText
from .interventions import MeanHeads as MeanHeads
from .interventions import NullText as NullText
from .interventions import Patch as Patch
from .interventions import RandomDirection as RandomDirection
from .interventions import ScaleHeads as ScaleHeads
from .interventions import SkipBlock as SkipBlock
from .interventions import Source as Source
from .live import ablate as ablate
from .models.loading import load_model as load_model
from .recording.capturing import capture as capture
from .recording.generating import generate as generate
from .recording.tracing import trace as trace
from .store import open as open
from .store import runs as runs
from .widgets.explore.compare import compare as compare
from .widgets.explore.explorer import explore as explore

__version__: str
