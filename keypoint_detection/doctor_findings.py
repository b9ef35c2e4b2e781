"""What the doctor finds: one record per fault, with the image and the annotation that it comes from."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Hold one fault of a data set.

    Attributes:
        code: Short name of the kind of fault, such as `point-outside`; the same in every version.
        severity: An error makes a training wrong or impossible; a warning deserves a look.
        message: One line: what was expected, what is there, and how to mend it.
        image_id: The image that it is about, or None.
        annotation_id: The annotation that it is about, or None.
        file: The file that it is about, where several are examined.
    """

    code: str
    severity: Severity
    message: str
    image_id: int | None = None
    annotation_id: int | None = None
    file: str = ""
