#!/usr/bin/env bash
# Machines of one's own: give a node to a pool. Run again, it moves the node.
# Its driver must be 580 or newer (CUDA 13).
#   assign.sh POOL ACCELERATOR NODE...      assign.sh train nvidia-a100-80gb gpu-01 gpu-02
set -euo pipefail
pool=$1 accelerator=$2
shift 2

case $pool in
    generate | train | evaluate) ;;
    *)
        echo "assign.sh: unknown pool '$pool'; one of generate, train, evaluate" >&2
        exit 2
        ;;
esac
kubectl label node --overwrite "$@" "tspin.io/pool=$pool" "tspin.io/accelerator=$accelerator"
kubectl taint node --overwrite "$@" "nvidia.com/gpu=tspin-$pool:NoSchedule"
