"""The fields of custom resources that the manifests use, strictly: a misspelt one is an error.

kubernetes-validate knows Kubernetes' own kinds only. Names and types here are those of the
operators' own definitions, as far as the manifests use them.
"""

from custom.argo_events import EventSourceSpec, SensorSpec
from custom.common import Metadata
from custom.external_secrets import ExternalSecretSpec, SecretStoreSpec
from custom.gke import ComputeClassSpec
from custom.karpenter import EC2NodeClassSpec, NodePoolSpec
from custom.katib import ExperimentSpec
from custom.kserve import InferenceServiceSpec, LLMInferenceServiceSpec
from custom.kueue import ClusterQueueSpec, LocalQueueSpec, ResourceFlavorSpec, WorkloadPriorityClass
from custom.prometheus import PodMonitorSpec, PrometheusRuleSpec
from custom.trainer import TrainingRuntimeSpec
from tspin.config.strict import Strict

__all__ = ["SCHEMAS", "WHOLE", "Metadata"]

SCHEMAS: dict[tuple[str, str], type[Strict]] = {
    ("karpenter.sh/v1", "NodePool"): NodePoolSpec,
    ("karpenter.k8s.aws/v1", "EC2NodeClass"): EC2NodeClassSpec,
    ("cloud.google.com/v1", "ComputeClass"): ComputeClassSpec,
    ("kueue.x-k8s.io/v1beta2", "ResourceFlavor"): ResourceFlavorSpec,
    ("kueue.x-k8s.io/v1beta2", "ClusterQueue"): ClusterQueueSpec,
    ("kueue.x-k8s.io/v1beta2", "LocalQueue"): LocalQueueSpec,
    ("external-secrets.io/v1", "ExternalSecret"): ExternalSecretSpec,
    ("external-secrets.io/v1", "SecretStore"): SecretStoreSpec,
    ("trainer.kubeflow.org/v1alpha1", "TrainingRuntime"): TrainingRuntimeSpec,
    ("monitoring.coreos.com/v1", "PodMonitor"): PodMonitorSpec,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PrometheusRuleSpec,
    ("serving.kserve.io/v1alpha2", "LLMInferenceService"): LLMInferenceServiceSpec,
    ("serving.kserve.io/v1beta1", "InferenceService"): InferenceServiceSpec,
    ("kubeflow.org/v1beta1", "Experiment"): ExperimentSpec,
    ("argoproj.io/v1alpha1", "EventSource"): EventSourceSpec,
    ("argoproj.io/v1alpha1", "Sensor"): SensorSpec,
}
"""Of each custom resource's spec, by apiVersion and kind."""

WHOLE: dict[tuple[str, str], type[Strict]] = {
    ("kueue.x-k8s.io/v1beta2", "WorkloadPriorityClass"): WorkloadPriorityClass,
}
"""Of custom resources that have no spec."""
