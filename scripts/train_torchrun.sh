#!/usr/bin/env bash
# Train on every GPU of one machine, or of several that reach each other.
#
#   scripts/train_torchrun.sh --json_dataset_path data/train.json --run_name mice --batch_size 16
#
# On several machines: the same line on each, at about the same time, with the number of machines and the
# address of one of them:
#
#   NODES=2 HEAD=node1 scripts/train_torchrun.sh --json_dataset_path data/train.json --run_name mice
#
# --batch_size is per GPU. Give a --run_name, and a --default_root_dir that all machines see.
# A process that dies ends the run with an error; go on with --ckpt_path <run>/checkpoints/last.ckpt.
set -euo pipefail

NODES=${NODES:-1}                                       # machines
GPUS=${GPUS:-$(nvidia-smi --list-gpus | wc -l)}         # GPUs of each machine
HEAD=${HEAD:-localhost}                                 # one of the machines
PORT=${PORT:-29400}                                     # a free port of that machine

# One thread per process is torchrun's default; loader workers are processes of their own.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

exec python -m torch.distributed.run \
    --nnodes "$NODES" --nproc_per_node "$GPUS" \
    --rdzv_backend c10d --rdzv_endpoint "$HEAD:$PORT" --rdzv_id "${RUN_ID:-keypoints}" \
    -m keypoint_detection train \
    --accelerator gpu --devices "$GPUS" --num_nodes "$NODES" --strategy ddp "$@"
