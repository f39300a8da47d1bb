from . import accessor as accessor
from . import figures as figures
from .ablating import ablate as ablate
from .models.loading import load_model as load_model
from .recording.capturing import capture as capture
from .recording.generating import generate as generate
from .recording.tracing import trace as trace
from .store import open as open
from .store import runs as runs
from .widgets.comparing import compare as compare
from .widgets.explorer import explore as explore

__version__: str
