"""Training: configuration, command line, and the wiring of data, model and Trainer.

The package shares its name with the public function `keypoint_detection.train(config)`. Python binds a
package to its parent's name once one of its modules is imported, so the package itself answers that call.
"""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, config: Any) -> Any:
        """Train, score and save a detector; see `keypoint_detection.train.train.train`."""
        from keypoint_detection.train.train import train

        return train(config)


sys.modules[__name__].__class__ = _CallablePackage
