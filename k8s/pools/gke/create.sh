#!/usr/bin/env bash
# The same pools by hand, for clusters whose GKE version has no compute classes:
#   create.sh PROJECT CLUSTER LOCATION ZONE
# The images' CUDA 13 needs driver 580 or newer: 'latest', since 'default' may be older.
# GKE itself adds the taint nvidia.com/gpu=present:NoSchedule and the label gke-accelerator.
set -euo pipefail
project=$1 cluster=$2 location=$3 zone=$4

pool() {
    local name=$1
    shift
    gcloud container node-pools create "$name" --project "$project" --cluster "$cluster" \
        --location "$location" --node-locations "$zone" \
        --num-nodes 0 --enable-autoscaling --total-min-nodes 0 --location-policy ANY \
        --workload-metadata GKE_METADATA --enable-gvnic --shielded-secure-boot "$@"
}

pool tspin-generate --machine-type a3-highgpu-1g --spot --total-max-nodes 8 \
    --accelerator type=nvidia-h100-80gb,count=1,gpu-driver-version=latest \
    --node-labels cloud.google.com/compute-class=tspin-generate \
    --node-taints cloud.google.com/compute-class=tspin-generate:NoSchedule
pool tspin-train --machine-type a3-highgpu-8g --total-max-nodes 2 \
    --accelerator type=nvidia-h100-80gb,count=8,gpu-driver-version=latest \
    --node-labels cloud.google.com/compute-class=tspin-train \
    --node-taints cloud.google.com/compute-class=tspin-train:NoSchedule
pool tspin-train-spot --machine-type a3-highgpu-8g --spot --total-max-nodes 2 \
    --accelerator type=nvidia-h100-80gb,count=8,gpu-driver-version=latest \
    --node-labels cloud.google.com/compute-class=tspin-train-spot \
    --node-taints cloud.google.com/compute-class=tspin-train-spot:NoSchedule
pool tspin-evaluate --machine-type a3-highgpu-1g --spot --total-max-nodes 2 \
    --accelerator type=nvidia-h100-80gb,count=1,gpu-driver-version=latest \
    --node-labels cloud.google.com/compute-class=tspin-evaluate \
    --node-taints cloud.google.com/compute-class=tspin-evaluate:NoSchedule
pool tspin-transfer --machine-type n2-standard-8 --total-max-nodes 4 --disk-size 500 \
    --node-labels cloud.google.com/compute-class=tspin-transfer \
    --node-taints cloud.google.com/compute-class=tspin-transfer:NoSchedule
