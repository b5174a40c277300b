{{/* How members of a group are scaled: (root, component, group, topic, partitions). */}}
{{- define "caselock.scaling" -}}
{{- $scaling := (index .root.Values .component).autoscaling -}}
{{- $kafka := .root.Values.kafka -}}
{{- $name := printf "%s-%s" (include "caselock.fullname" .root) .component -}}
{{- $partitions := int (default 48 $kafka.partitions) -}}
{{- if and (ne $scaling.mode "none") (gt (int $scaling.maxReplicas) $partitions) -}}
{{- fail (printf "%s.autoscaling.maxReplicas is %d: more than %s has partitions (%d) would have nothing to do" .component (int $scaling.maxReplicas) .topic $partitions) -}}
{{- end -}}
{{- $replicas := int (index .root.Values .component).replicas -}}
{{- if and (eq $scaling.mode "none") (gt $replicas $partitions) -}}
{{- fail (printf "%s.replicas is %d: more than %s has partitions (%d) would have nothing to do" .component $replicas .topic $partitions) -}}
{{- end -}}
{{- if and (ne $scaling.mode "none") (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail (printf "%s.autoscaling.minReplicas is %d: more than maxReplicas, %d" .component (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if eq $scaling.mode "hpa" }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  labels: {{- include "caselock.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ $scaling.minReplicas }}
  maxReplicas: {{ $scaling.maxReplicas }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ required (printf "%s.autoscaling.targetCpu: how many percent of what a pod asks for?" .component) $scaling.targetCpu }}}}
  behavior:
    # Each change of members hands partitions over.
    scaleDown: {stabilizationWindowSeconds: 600, policies: [{type: Pods, value: 1, periodSeconds: 120}]}
{{- else if eq $scaling.mode "keda" }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ $name }}
  labels: {{- include "caselock.labels" . | nindent 4 }}
  annotations:
    # From an HPA of this chart it takes over.
    scaledobject.keda.sh/transfer-hpa-ownership: "true"
spec:
  scaleTargetRef: {name: {{ $name }}}
  minReplicaCount: {{ $scaling.minReplicas }}
  maxReplicaCount: {{ $scaling.maxReplicas }}
  pollingInterval: {{ $scaling.pollingInterval }}
  cooldownPeriod: {{ $scaling.cooldownPeriod }}
  # While the lag can't be read, everything stays as it is.
  fallback: {failureThreshold: 3, replicas: {{ $scaling.minReplicas }}, behavior: currentReplicas}
  advanced:
    horizontalPodAutoscalerConfig:
      name: {{ $name }}
      behavior:
        scaleDown: {stabilizationWindowSeconds: {{ min 3600 (int $scaling.cooldownPeriod) }}, policies: [{type: Pods, value: 1, periodSeconds: 60}]}
  triggers:
    - type: kafka
      metadata:
        bootstrapServers: {{ $kafka.brokers | quote }}
        consumerGroup: {{ printf "%s%s" $kafka.topicPrefix .group | quote }}
        topic: {{ printf "%s%s" $kafka.topicPrefix .topic | quote }}
        lagThreshold: {{ $scaling.lagThreshold | quote }}
        # Nothing was committed yet: everything waits.
        offsetResetPolicy: earliest
        scaleToZeroOnInvalidOffset: "false"
        {{- if $kafka.tls.enabled }}
        tls: enable
        {{- end }}
        {{- if $kafka.sasl.enabled }}
        sasl: {{ get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512") $kafka.sasl.mechanism }}
        {{- end }}
      {{- if or $kafka.sasl.enabled (and $kafka.tls.enabled (or $kafka.tls.ca.name $kafka.tls.clientSecret.name)) }}
      authenticationRef: {name: {{ include "caselock.fullname" .root }}-kafka}
      {{- end }}
{{- end }}
{{- end -}}
