#!/usr/bin/env bash
# Train on GPUs of a SLURM cluster, and go on by itself when the time of the job is over.
#
#   sbatch scripts/train_slurm.sh --json_dataset_path data/train.json --run_name mice --batch_size 16
#
# Set nodes, GPUs and time below, or on the command line of sbatch, which wins; the flags of a training
# after the script's name. SLURM starts one process per
# GPU, so --ntasks-per-node and --gpus-per-node are the same number.
#SBATCH --job-name=keypoints
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --output=%x-%j.out
# Ask for the signal two minutes before the end: the run saves itself and asks for the job to be queued again.
#SBATCH --signal=SIGUSR1@120
#SBATCH --requeue
# The output of every part of the run stays in one file.
#SBATCH --open-mode=append
set -euo pipefail

ROOT=${ROOT:-runs}                                      # a folder that all nodes see
NAME=${NAME:-job-$SLURM_JOB_ID}                         # the folder of the run in it; the same when requeued
GPUS=${SLURM_NTASKS_PER_NODE:-1}

# `--ckpt_path last` starts the run, and goes on with it when the job is queued again.
# --kill-on-bad-exit: a process that dies ends the others, instead of letting them wait for it.
code=0
srun --kill-on-bad-exit=1 \
    python -m keypoint_detection train \
    --accelerator gpu --devices "$GPUS" --num_nodes "$SLURM_NNODES" --strategy ddp \
    --default_root_dir "$ROOT" --run_name "$NAME" --ckpt_path last "$@" || code=$?

# 128 + SIGUSR1: the run has saved itself. Its first process asks for the queue; it may have been ended before.
if [[ $code -eq 138 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
