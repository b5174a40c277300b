{{/* What all pods have in common. */}}

{{/* (root) */}}
{{- define "caselock.podSecurity" -}}
{{- $own := .root.Values.podSecurityContext -}}
{{- if $own -}}{{ toYaml $own }}{{- else -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}
{{- end -}}

{{- define "caselock.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "caselock.secretMounts" -}}
{{- range (include "caselock.secrets" . | fromJsonArray) }}
- {name: {{ .name }}, mountPath: /etc/caselock/{{ .name }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "caselock.secretVolumes" -}}
{{- range (include "caselock.secrets" . | fromJsonArray) }}
- name: {{ .name }}
  secret: {secretName: {{ .secret | quote }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{/* What every container of a component has in common, whatever it is told to do. */}}
{{- define "caselock.program" -}}
{{- $values := index .root.Values .component -}}
image: {{ include "caselock.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext: {{- include "caselock.containerSecurity" (dict) | nindent 2 }}
env:
  {{- $given := dict -}}
  {{- range $values.extraEnv }}{{ $_ := set $given .name true }}{{ end -}}
  {{- if not $given.CASELOCK_POD }}
  - name: CASELOCK_POD
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- end }}
  {{- if not $given.CASELOCK_NAMESPACE }}
  - name: CASELOCK_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  {{- end }}
  {{- if not $given.OTEL_RESOURCE_ATTRIBUTES }}
  - {name: OTEL_RESOURCE_ATTRIBUTES, value: "service.instance.id=$(CASELOCK_POD),k8s.pod.name=$(CASELOCK_POD),k8s.namespace.name=$(CASELOCK_NAMESPACE)"}
  {{- end }}
  {{- with $values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.envFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $resources := deepCopy (default dict $values.resources) }}
{{- /* What has a volume of its own takes nothing of the node's disk. */}}
{{- if and (dig "scratch" "storageClass" "" $values) $resources.requests }}{{ $_ := unset $resources.requests "ephemeral-storage" }}{{ end }}
resources: {{- toYaml $resources | nindent 2 }}
volumeMounts:
  - {name: settings, mountPath: /etc/caselock/settings, readOnly: true}
  {{- include "caselock.secretMounts" . | trim | nindent 2 }}
  {{- if eq .component "media" }}
  - {name: scratch, mountPath: /scratch}
  {{- end }}
  {{- with $values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The spec of a component's pods, with what its values put over it: (root, component, name, and for a server: port). */}}
{{- define "caselock.pod" -}}
{{- $values := index .root.Values .component -}}
{{- $pod := include "caselock.ownPod" . | fromYaml -}}
{{- $_ := mergeOverwrite (index $pod.containers 0) (deepCopy (default dict $values.containerSpec)) -}}
{{- range $pod.initContainers -}}
{{- if eq .name "rebuild" -}}{{- $_ := mergeOverwrite . (omit (deepCopy (default dict $values.containerSpec)) "livenessProbe" "readinessProbe" "startupProbe" "lifecycle") -}}{{- end -}}
{{- end -}}
{{- toYaml (mergeOverwrite $pod (deepCopy (default dict $values.podSpec))) -}}
{{- end -}}

{{- define "caselock.ownPod" -}}
{{- $values := index .root.Values .component -}}
serviceAccountName: {{ include "caselock.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with (include "caselock.priorityClass" (dict "root" .root "media" (eq .component "media"))) }}
priorityClassName: {{ . }}
{{- end }}
securityContext: {{- include "caselock.podSecurity" . | nindent 2 }}
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
{{- with $values.hostAliases }}
hostAliases: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $rebuild := and (eq .component "registry") $values.rebuild }}
{{- if or $values.initContainers $rebuild }}
initContainers:
  {{- with $values.initContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if $rebuild }}
  # Before a registry is at work on a database that was restored.
  - name: rebuild
    args: {{ concat (list "--config" "/etc/caselock/settings/settings.toml") (default list $values.extraArgs) (list "rebuild" "--from-store") | toJson }}
    {{- include "caselock.program" . | trim | nindent 4 }}
  {{- end }}
{{- end }}
containers:
  - name: {{ .component }}
    args: {{ concat (list "--config" "/etc/caselock/settings/settings.toml") (default list $values.extraArgs) | toJson }}
    {{- include "caselock.program" . | trim | nindent 4 }}
    ports:
      {{- if .port }}
      - {name: grpc, containerPort: {{ .port }}}
      {{- end }}
      - {name: admin, containerPort: 9464}
    # Start-up looks at log and store, and may wait for them: it only must be alive. Neither probe asks for Kafka or the store.
    livenessProbe:
      httpGet: {path: /livez, port: admin}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet: {path: /readyz, port: admin}
      periodSeconds: 5
      timeoutSeconds: 3
      failureThreshold: 6
      successThreshold: 1
    {{- if .port }}
    # Who looks up the Service meanwhile still finds this one at work.
    lifecycle: {preStop: {sleep: {seconds: 5}}}
    {{- end }}
  {{- with $values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  - name: settings
    configMap: {name: {{ .name }}}
  {{- include "caselock.secretVolumes" . | trim | nindent 2 }}
  {{- if eq .component "media" }}
  - name: scratch
    {{- if $values.scratch.storageClass }}
    ephemeral:
      volumeClaimTemplate:
        spec:
          accessModes: [ReadWriteOnce]
          storageClassName: {{ $values.scratch.storageClass | quote }}
          resources: {requests: {storage: {{ $values.scratch.sizeLimit }}}}
    {{- else }}
    emptyDir: {sizeLimit: {{ $values.scratch.sizeLimit }}}
    {{- end }}
  {{- end }}
  {{- with $values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if dig "topologySpread" false $values }}
topologySpreadConstraints:
  {{- range (list "kubernetes.io/hostname" "topology.kubernetes.io/zone") }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "caselock.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A Deployment and what belongs to it: (root, component, and for a server: port). */}}
{{- define "caselock.deployment" -}}
{{- $values := index .root.Values .component -}}
{{- $name := printf "%s-%s" (include "caselock.fullname" .root) .component -}}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace $name -}}
{{- $scaled := or (eq (dig "autoscaling" "enabled" false $values) true) (has (dig "autoscaling" "mode" "none" $values) (list "keda" "hpa")) -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  labels: {{- include "caselock.labels" . | nindent 4 }}
data:
  settings.toml: |
    {{- include "caselock.config" . | trim | nindent 4 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels: {{- include "caselock.labels" . | nindent 4 }}
  {{- with $values.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if not $scaled }}
  replicas: {{ dig "replicas" 1 $values }}
  {{- else if $live }}
  # What scales it has set so many: without a number here, taking over from one that was set would begin with one. An HPA leaves 0 as it is.
  replicas: {{ max 1 (int $live.spec.replicas) }}
  {{- end }}
  revisionHistoryLimit: 5
  {{- if and (eq .component "registry") $values.rebuild }}
  # All that is in the store is read first: a day, then it counts as failed.
  progressDeadlineSeconds: 86400
  {{- end }}
  {{- if eq .component "registry" }}
  # The next one is ready only once this one is gone: one writer of locks.
  strategy: {type: Recreate}
  {{- else }}
  strategy: {{- toYaml (default (dict "type" "RollingUpdate" "rollingUpdate" (dict "maxSurge" 1 "maxUnavailable" (ternary 0 1 (eq .component "gateway")))) $values.strategy) | nindent 4 }}
  {{- end }}
  {{- with $values.minReadySeconds }}
  minReadySeconds: {{ . }}
  {{- end }}
  selector:
    matchLabels: {{- include "caselock.selector" . | nindent 6 }}
  template:
    metadata:
      annotations:
        checksum/settings: {{ include "caselock.config" . | sha256sum }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      labels: {{- include "caselock.labels" (merge (dict "own" $values.podLabels) .) | nindent 8 }}
    spec:
      {{- include "caselock.pod" (merge (dict "name" $name) .) | nindent 6 }}
{{- if $values.disruptionBudget.enabled }}
---
# One at a time may be drained, the only one too: clients, or the group, go on with the next.
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels: {{- include "caselock.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ $values.disruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "caselock.selector" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* The Service of a server: (root, component, port). */}}
{{- define "caselock.service" -}}
{{- $service := (index .root.Values .component).service -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "caselock.fullname" .root }}-{{ .component }}
  labels: {{- include "caselock.labels" . | nindent 4 }}
  {{- with $service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $service.type }}
  {{- if ne $service.type "ClusterIP" }}
  externalTrafficPolicy: {{ default "Cluster" (dig "externalTrafficPolicy" "" $service) }}
  {{- end }}
  {{- if eq $service.type "LoadBalancer" }}
  {{- with $service.loadBalancerClass }}
  loadBalancerClass: {{ . }}
  {{- end }}
  {{- with $service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  selector: {{- include "caselock.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: {{ $service.port }}, targetPort: grpc{{ if ne $service.type "ClusterIP" }}{{ with dig "nodePort" nil $service }}, nodePort: {{ . }}{{ end }}{{ end }}}
{{- end -}}

{{- define "caselock.isAddress" -}}{{ if or (regexMatch "^[0-9.]+$" .) (contains ":" .) }}yes{{ end }}{{- end -}}

{{/* The Ingress of a server: (root, component). Its controller passes TLS through: whose client it is, the server itself must see. */}}
{{- define "caselock.ingress" -}}
{{- $values := index .root.Values .component -}}
{{- with $values.ingress }}
{{- if .enabled }}
{{- $names := list -}}
{{- range $values.hostnames }}{{ if not (include "caselock.isAddress" .) }}{{ $names = append $names . }}{{ end }}{{ end -}}
{{- if not $names }}{{ fail (printf "%s.hostnames: under which names does the Ingress let clients in?" $.component) }}{{ end }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ include "caselock.fullname" $.root }}-{{ $.component }}
  labels: {{- include "caselock.labels" $ | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .className }}
  ingressClassName: {{ . }}
  {{- end }}
  tls:
    - hosts: {{- toYaml $names | nindent 8 }}
  rules:
    {{- range $names }}
    - host: {{ . | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: {{ include "caselock.fullname" $.root }}-{{ $.component }}, port: {name: grpc}}}
    {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The certificate of a server: (root, component). */}}
{{- define "caselock.certificate" -}}
{{- $certManager := .root.Values.tls.certManager -}}
{{- $values := index .root.Values .component -}}
{{- if and $certManager.enabled (not $values.tlsSecret) }}
{{- $name := printf "%s-%s" (include "caselock.fullname" .root) .component }}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ $name }}
  labels: {{- include "caselock.labels" . | nindent 4 }}
spec:
  secretName: {{ $name }}-tls
  duration: {{ $certManager.duration }}
  renewBefore: {{ $certManager.renewBefore }}
  privateKey: {algorithm: ECDSA, size: 256, encoding: PKCS8, rotationPolicy: Always}
  usages: [digital signature, server auth]
  dnsNames:
    - {{ $name }}
    - {{ $name }}.{{ .root.Release.Namespace }}
    - {{ $name }}.{{ .root.Release.Namespace }}.svc
    - {{ $name }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
    {{- $addresses := list }}
    {{- range $values.hostnames }}
    {{- if include "caselock.isAddress" . }}{{ $addresses = append $addresses . }}{{ else }}
    - {{ . | quote }}
    {{- end }}
    {{- end }}
  {{- with $addresses }}
  ipAddresses: {{- toYaml . | nindent 4 }}
  {{- end }}
  issuerRef:
    name: {{ required "tls.certManager.issuerRef.name: who signs?" $certManager.issuerRef.name | quote }}
    kind: {{ $certManager.issuerRef.kind }}
    group: {{ $certManager.issuerRef.group }}
{{- end }}
{{- end -}}

{{/* A step of the test: (root, test, step, bureau). */}}
{{- define "caselock.testContainer" -}}
- name: {{ .step.name }}
  image: {{ include "caselock.image" (dict "root" .root "component" "admin") }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{ concat (list "--config" "/etc/caselock/settings/settings.toml") .step.args | toJson }}
  securityContext: {{- include "caselock.containerSecurity" (dict) | nindent 4 }}
  resources:
    requests: {cpu: 50m, memory: 64Mi}
    limits: {memory: 256Mi}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: settings, mountPath: /etc/caselock/settings, readOnly: true}
    {{- if .bureau }}
    - {name: bureau, mountPath: /etc/caselock/bureau, readOnly: true}
    - {name: receipt-key, mountPath: /etc/caselock/receipt-key, readOnly: true}
    {{- end }}
    {{- include "caselock.secretMounts" .test | trim | nindent 4 }}
    {{- with .root.Values.test.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .root.Values.test.extraEnv }}
  env: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
