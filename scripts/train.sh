#!/usr/bin/env bash
# One training: scripts/train.sh data/train.json [any other flag of keypoint-detection train].
set -euo pipefail
if [ $# -lt 1 ]; then
  echo "usage: $0 COCO_FILE [flags of keypoint-detection train]" >&2
  exit 2
fi
data=$1
shift
exec "${PYTHON:-python}" -m keypoint_detection train --json_dataset_path "$data" "$@"
