"""Errors of post-processing, sorted by who is at fault.

PostprocessingError
├── caller's: the same request fails again
│   ├── FontMissing             no font here has that name, or these characters
│   └── MarkTooLarge            the picture is too small for the watermark, or its text can't be seen
└── operator's: a setting or a file of the installation is wrong
    ├── SuperResolutionMissing  no usable network for this scale
    ├── EnlargementNotFinite    the network made NaN or infinities of a picture
    └── ProvenanceUnavailable   no certificate to sign with, or an unusable one

A wrong array at the border raises TypeError or ValueError (postprocessing/arrays.py), a wrong block RecipeError.
"""


class PostprocessingError(Exception):
    code = "postprocessing_failed"
    callers_fault = False


class FontMissing(PostprocessingError):
    code = "font_missing"
    callers_fault = True


class MarkTooLarge(PostprocessingError):
    code = "watermark_too_large"
    callers_fault = True


class ProvenanceUnavailable(PostprocessingError):
    code = "provenance_unavailable"


class SuperResolutionMissing(PostprocessingError):
    code = "superres_missing"


class EnlargementNotFinite(PostprocessingError):
    code = "not_finite"
