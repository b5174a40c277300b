{{/* Where a component may go: a list of (to, ports), as YAML: (root, to: list of "kafka", "s3", "database", "otlp"). */}}
{{- define "caselock.egress" -}}
{{- $values := .root.Values -}}
{{- $policy := $values.networkPolicy -}}
{{- with $policy.dnsPorts }}
- ports:
    {{- range . }}
    - {port: {{ . }}, protocol: UDP}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- if has "kafka" .to }}
- {{- with $policy.kafkaTo }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    {{- range (include "caselock.kafkaPorts" .root | fromJsonArray) }}
    - {port: {{ . }}}
    {{- end }}
{{- end }}
{{- if has "s3" .to }}
- {{- with $policy.s3To }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    {{- range (include "caselock.s3Ports" .root | fromJsonArray) }}
    - {port: {{ . }}}
    {{- end }}
{{- end }}
{{- if has "gateway" .to }}
- to:
    - podSelector:
        matchLabels: {{- include "caselock.selector" (dict "root" .root "component" "gateway") | nindent 10 }}
  ports: [{port: 7443}]
{{- with $values.test.server }}
- ports: [{port: {{ include "caselock.port" (dict "url" .) }}}]
{{- end }}
{{- end }}
{{- if has "database" .to }}
- {{- with $policy.databaseTo }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
  ports: [{port: {{ $policy.databasePort }}}]
{{- end }}
{{- if and (has "otlp" .to) $values.telemetry.otlpEndpoint }}
- {{- with $policy.otlpTo }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    {{- range (include "caselock.otlpPorts" .root | fromJsonArray) }}
    - {port: {{ . }}}
    {{- end }}
{{- end }}
{{- with concat (default list $policy.extraEgress) (default list (index $policy.extraEgressOf .component)) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The ports of Kafka, of the store and of the collector: JSON. */}}
{{- define "caselock.kafkaPorts" -}}
{{- $ports := list -}}
{{- range (regexFindAll ":[0-9]+(,|$)" .Values.kafka.brokers -1) -}}{{- $ports = append $ports (trimAll ":," . | int) -}}{{- end -}}
{{- toJson (default (uniq $ports) .Values.networkPolicy.kafkaPorts) -}}
{{- end -}}
{{- define "caselock.s3Ports" -}}
{{- toJson (default (list (include "caselock.port" (dict "url" (default "https://" .Values.s3.endpoint)))) .Values.networkPolicy.s3Ports) -}}
{{- end -}}
{{- define "caselock.otlpPorts" -}}
{{- toJson (default (list (include "caselock.port" (dict "url" .Values.telemetry.otlpEndpoint))) .Values.networkPolicy.otlpPorts) -}}
{{- end -}}

{{/* A gateway must not reach the store, not by what it may reach Kafka or the collector by either. */}}
{{- define "caselock.gatewayApartFromStore" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if $policy.enabled -}}
{{- $store := list -}}
{{- range (include "caselock.s3Ports" . | fromJsonArray) -}}{{- $store = append $store (toString .) -}}{{- end -}}
{{- $open := list -}}
{{- if not $policy.kafkaTo -}}{{- $open = include "caselock.kafkaPorts" . | fromJsonArray -}}{{- end -}}
{{- range $open -}}
{{- if has (toString .) $store -}}{{- fail (printf "networkPolicy.kafkaTo: where is Kafka? Without that a gateway may reach the store, which is on port %v as well" .) -}}{{- end -}}
{{- end -}}
{{- $open = list -}}
{{- if and .Values.telemetry.otlpEndpoint (not $policy.otlpTo) -}}{{- $open = include "caselock.otlpPorts" . | fromJsonArray -}}{{- end -}}
{{- range $open -}}
{{- if has (toString .) $store -}}{{- fail (printf "networkPolicy.otlpTo: where is the collector? Without that a gateway may reach the store, which is on port %v as well" .) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The port of an address: (url). */}}
{{- define "caselock.port" -}}
{{- $port := regexFind ":[0-9]+$" (regexReplaceAll "/.*" (regexReplaceAll "^[a-z]+://" .url "") "") -}}
{{- if $port -}}{{ trimPrefix ":" $port }}{{- else -}}{{ ternary 443 80 (hasPrefix "https://" .url) }}{{- end -}}
{{- end -}}

{{/* A NetworkPolicy: (root, component, to, and for a server: port, from). */}}
{{- define "caselock.networkPolicy" -}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "caselock.fullname" .root }}-{{ .component }}
  labels: {{- include "caselock.labels" . | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  podSelector:
    matchLabels: {{- include "caselock.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- if .port }}
    - {{- if .from }}
      from:
        {{- toYaml .from | nindent 8 }}
        # The chart's own test.
        - podSelector:
            matchLabels: {{- include "caselock.selector" (dict "root" .root "component" "test") | nindent 14 }}
      {{- end }}
      ports: [{port: {{ .port }}}]
    {{- end }}
    - from:
        - podSelector: {}
        {{- with .root.Values.networkPolicy.monitoringFrom }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports: [{port: 9464}]
  egress: {{- include "caselock.egress" . | nindent 4 }}
{{- end -}}
