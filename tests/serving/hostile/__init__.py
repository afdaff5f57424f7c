"""An archive of step graphs that mean harm, or are wrong, each with what its refusal has to say."""

from tests.serving.hostile.looked_at import LOOKED_AT
from tests.serving.hostile.tried_out import TRIED_OUT

ARCHIVE = LOOKED_AT | TRIED_OUT

__all__ = ["ARCHIVE", "LOOKED_AT", "TRIED_OUT"]
