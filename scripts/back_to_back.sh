#!/usr/bin/env bash
# Trainings one after the other: a file with the flags of one training per line ('#' starts a comment), and
# flags that all of them share. One that fails is named at the end, and the others are trained all the same:
#   scripts/back_to_back.sh runs.txt --json_dataset_path data/train.json --max_epochs 50
set -uo pipefail
if [ $# -lt 1 ] || [ ! -f "$1" ]; then
  echo "usage: $0 FILE_WITH_A_LINE_OF_FLAGS_PER_RUN [flags of all runs]" >&2
  exit 2
fi
runs=$1
shift
failed=0
while IFS= read -r line || [ -n "$line" ]; do
  line=${line%%#*}
  [ -n "${line//[[:space:]]/}" ] || continue
  # xargs reads quotes as a shell would, and runs nothing of what the line says
  mapfile -d '' -t flags < <(printf '%s' "$line" | xargs printf '%s\0')
  echo "== $line"
  if ! "${PYTHON:-python}" -m keypoint_detection train "$@" "${flags[@]}" < /dev/null; then
    echo "failed: $line" >&2
    failed=1
  fi
done < "$runs"
exit $failed
