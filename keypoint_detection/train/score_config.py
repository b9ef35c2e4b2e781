"""The settings that define a score: what `eval` takes as well, under the same names."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from keypoint_detection.train.values import NamePair, Numbers, none_if_empty

Sigmas = Annotated[str | float | list[float] | dict[str, float] | None, BeforeValidator(none_if_empty)]


class ScoreConfig(BaseModel):
    """Hold what the definitions of the scores depend on."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    ap_interpolation: Literal["all", "101"] = Field(
        default="all", description="area below all points of the precision-recall curve, or COCO's 101"
    )
    oks_sigmas: Sigmas = Field(
        default=None,
        description="OKS constants: coco, numbers (one, or one per name), name=number pairs split by ';', a "
        "JSON or YAML file, or estimate; default: COCO's where all names are COCO's, else 0.067",
    )
    pck_alpha: Numbers = Field(
        default=[0.05, 0.1, 0.2], description="PCK thresholds, in units of the normalising length"
    )
    pck_normalizer: Literal[
        "auto", "pixels", "reference", "head_size", "box_diagonal", "box_side", "image_diagonal"
    ] = Field(
        default="auto",
        description="normalising length of PCK and NME; auto: box_side (the longer one) where every instance "
        "has a box, else image_diagonal",
    )
    pck_reference: NamePair = Field(
        default=None, description="two keypoint names: their distance is the normalising length"
    )

    @property
    def scoring(self) -> dict[str, Any]:
        """Return the settings as the detector keeps them."""
        return {name: getattr(self, name) for name in ScoreConfig.model_fields}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse a reference that would not be used, and thresholds that nothing can be below."""
        if not self.pck_alpha or not all(0 < alpha < math.inf for alpha in self.pck_alpha):
            raise ValueError("--pck_alpha: expected numbers above 0 such as '0.1 0.2'")
        if self.pck_reference is not None and self.pck_normalizer == "auto":
            self.pck_normalizer = "reference"
        if (self.pck_reference is not None) != (self.pck_normalizer == "reference"):
            raise ValueError(
                "--pck_normalizer reference and --pck_reference 'NAME' 'NAME' belong together; give both or "
                "only the names"
            )
        return self
