#!/usr/bin/env bash
# Machines of one's own: give a node to a pool. Run again, it moves the node.
#   assign.sh POOL ACCELERATOR NODE...      assign.sh train nvidia-a100-80gb gpu-01 gpu-02
# The driver of GPUs must be 580 or newer (CUDA 13). Pool 'transfer' is for the steps that move whole
# models: no GPU (ACCELERATOR is none), and a disk with 200 GB or more to spare.
set -euo pipefail
pool=$1 accelerator=$2
shift 2

case $pool in
    generate | train | evaluate) taint=nvidia.com/gpu=tspin-$pool ;;
    transfer) taint=tspin.io/pool=$pool ;;
    *)
        echo "assign.sh: unknown pool '$pool'; one of generate, train, evaluate, transfer" >&2
        exit 2
        ;;
esac
kubectl label node --overwrite "$@" "tspin.io/pool=$pool" "tspin.io/accelerator=$accelerator"
kubectl taint node --overwrite "$@" "$taint:NoSchedule"
