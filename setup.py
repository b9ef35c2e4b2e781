"""Package metadata; the build system and the tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "keypoint_detection/__init__.py").read_text(encoding="utf-8")
)

EXTRAS = {
    "onnx": ["onnx>=1.16", "onnxscript>=0.2", "onnxruntime>=1.19"],
    "video": ["av>=17"],
    "sleap": ["sleap-io>=0.2"],
    "dlc": ["h5py>=3.8", "pandas>=2.2", "tables>=3.9"],
    "gaze": ["diffusers>=0.30"],
    "parquet": ["pandas>=2.2", "pyarrow>=16"],
    "fast": ["faster-coco-eval>=1.6"],
    "sweep": ["optuna>=4"],
    "tensorboard": ["tensorboard>=2.16"],
    "rich": ["rich>=13"],
    "dev": [
        "av>=17",
        "build>=1.2",
        "diffusers>=0.30",
        "h5py>=3.8",
        "hypothesis>=6.100",
        "onnx>=1.16",
        "onnxruntime>=1.19",
        "onnxscript>=0.2",
        "optuna>=4",
        "pandas>=2.2",
        "pre-commit>=3.7",
        "pyarrow>=16",
        "pyright[nodejs]>=1.1.400",
        "pytest>=8.2",
        "ruff>=0.17,<0.18",  # the formatter changes between minor versions
        "scikit-learn>=1.4",
        "setuptools>=77",
        "sleap-io>=0.2",
        "tables>=3.9",
        "tensorboard>=2.16",
    ],
}

setup(
    name="keypoint-detection",
    version=VERSION[1],
    description="Keypoint detection with Gaussian heatmaps, for any COCO keypoint file",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["keypoint_detection", "keypoint_detection.*"]),
    package_data={"keypoint_detection": ["py.typed", "templates/*"]},
    install_requires=[
        "torch>=2.5",
        "pytorch-lightning>=2.6",
        "torchmetrics>=1.4",
        "timm>=1.0",
        "pycocotools>=2.0.8",
        "wandb>=0.18",
        "opencv-python>=4.11",
        "numpy>=2.0",
        "scipy>=1.13",
        "pydantic>=2.7",
        "PyYAML>=6.0",
        "safetensors>=0.4",
        "tqdm>=4.66",
        "matplotlib>=3.8",
        "jaxtyping>=0.2.30",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["keypoint-detection = keypoint_detection.__main__:main"]},
)
