from .session import LabelSession as LabelSession
