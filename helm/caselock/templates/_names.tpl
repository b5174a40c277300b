{{/* Names, labels and images. */}}

{{- define "caselock.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if not (regexMatch "^[a-z][-a-z0-9]*$" .Release.Name) -}}
{{- fail (printf "fullnameOverride: the release's name, %s, begins with a digit or has a dot, and a Service's may not: say how its objects are to be called" .Release.Name) -}}
{{- end -}}
{{- if contains $name .Release.Name -}}{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* (root, component) */}}
{{- define "caselock.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* (root, component, and what goes before the common ones: own) */}}
{{- define "caselock.labels" -}}
{{ include "caselock.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with merge (dict) (default dict .own) (default dict .root.Values.commonLabels) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* (root, component) */}}
{{- define "caselock.image" -}}
{{- $image := .root.Values.image -}}
{{- $repository := default (printf "%s/%s" $image.registry .component) (index (default dict $image.repositories) .component) -}}
{{- with index (default dict $image.digests) .component -}}
{{- printf "%s@%s" $repository . -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Each component has its own: the cloud's identities go by them: (root, component). */}}
{{- define "caselock.serviceAccount" -}}
{{- if .root.Values.serviceAccount.create -}}{{ include "caselock.fullname" .root }}-{{ .component }}
{{- else -}}{{ default "default" .root.Values.serviceAccount.name }}{{- end -}}
{{- end -}}

{{/* (root, media): the priority class of a component */}}
{{- define "caselock.priorityClass" -}}
{{- $class := .root.Values.priorityClass -}}
{{- $name := ternary $class.mediaName $class.name .media -}}
{{- if $name -}}{{ $name }}
{{- else if $class.create -}}{{ .root.Release.Namespace }}-{{ include "caselock.fullname" .root }}{{ ternary "-media" "" .media }}{{- end -}}
{{- end -}}
