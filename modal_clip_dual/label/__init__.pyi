from .notebook import NotebookPage as NotebookPage, show as show
from .session import LabelSession as LabelSession
