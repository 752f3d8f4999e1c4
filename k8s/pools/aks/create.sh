#!/usr/bin/env bash
# GPU node pools for AKS, which has no manifest for them: create.sh RESOURCE_GROUP CLUSTER
# The driver is AKS's own; the images' CUDA 13 needs 580 or newer (node images since July 2026).
# AKS itself adds to spot pools the taint kubernetes.azure.com/scalesetpriority=spot:NoSchedule.
set -euo pipefail
group=$1 cluster=$2

pool() {
    local name=$1
    shift
    az aks nodepool add --resource-group "$group" --cluster-name "$cluster" --name "$name" \
        --mode User --os-sku AzureLinux --enable-cluster-autoscaler --node-count 0 --min-count 0 \
        "$@"
}

pool generate --node-vm-size Standard_NC24ads_A100_v4 --max-count 8 --node-osdisk-size 256 \
    --priority Spot --eviction-policy Delete --spot-max-price -1 \
    --labels tspin.io/pool=generate tspin.io/accelerator=nvidia-a100-80gb \
    --node-taints nvidia.com/gpu=tspin-generate:NoSchedule
pool train --node-vm-size Standard_NC96ads_A100_v4 --max-count 2 --node-osdisk-size 256 \
    --labels tspin.io/pool=train tspin.io/accelerator=nvidia-a100-80gb \
    --node-taints nvidia.com/gpu=tspin-train:NoSchedule
pool trainspot --node-vm-size Standard_NC96ads_A100_v4 --max-count 2 --node-osdisk-size 256 \
    --priority Spot --eviction-policy Delete --spot-max-price -1 \
    --labels tspin.io/pool=train-spot tspin.io/accelerator=nvidia-a100-80gb \
    --node-taints nvidia.com/gpu=tspin-train-spot:NoSchedule
pool evaluate --node-vm-size Standard_NC24ads_A100_v4 --max-count 2 --node-osdisk-size 256 \
    --priority Spot --eviction-policy Delete --spot-max-price -1 \
    --labels tspin.io/pool=evaluate tspin.io/accelerator=nvidia-a100-80gb \
    --node-taints nvidia.com/gpu=tspin-evaluate:NoSchedule
pool transfer --node-vm-size Standard_D8ds_v5 --max-count 4 --node-osdisk-size 512 \
    --labels tspin.io/pool=transfer \
    --node-taints tspin.io/pool=transfer:NoSchedule
