{{/* The settings of each service, and the secrets they name. */}}

{{/* A table as TOML: (name, table). What is null or empty is left out; YAML's whole numbers are written whole, however large. */}}
{{- define "caselock.toml" -}}
{{- $name := .name -}}
{{- $within := list -}}
[{{ $name }}]
{{ range $key, $value := .table -}}
{{- if kindIs "map" $value -}}{{- if $value -}}{{- $within = append $within $key -}}{{- end -}}
{{- else if not (or (kindIs "invalid" $value) (eq (toString $value) "")) -}}
{{ $key | quote }} = {{ if kindIs "float64" $value }}{{ if eq (floor $value) $value }}{{ int64 $value }}{{ else }}{{ $value }}{{ end }}{{ else }}{{ toJson $value }}{{ end }}
{{ end -}}
{{- end -}}
{{- range $within -}}
{{ include "caselock.toml" (dict "name" (printf "%s.%s" $name (quote .)) "table" (index $.table .)) }}
{{- end -}}
{{- end -}}

{{- define "caselock.kafka" -}}
{{- $kafka := .Values.kafka -}}
{{- $security := ternary (ternary "sasl_ssl" "ssl" $kafka.sasl.enabled) (ternary "sasl_plaintext" "plaintext" $kafka.sasl.enabled) $kafka.tls.enabled -}}
{{- $properties := dict "security.protocol" $security -}}
{{- if $kafka.tls.enabled -}}
{{- if $kafka.tls.ca.name -}}{{- $_ := set $properties "ssl.ca.location" (printf "/etc/caselock/kafka-ca/%s" $kafka.tls.ca.key) -}}{{- end -}}
{{- with $kafka.tls.clientSecret -}}{{- if .name -}}
{{- $_ := set $properties "ssl.certificate.location" (printf "/etc/caselock/kafka-client/%s" .certificate) -}}
{{- $_ := set $properties "ssl.key.location" (printf "/etc/caselock/kafka-client/%s" .key) -}}
{{- end -}}{{- end -}}
{{- end -}}
{{- if $kafka.sasl.enabled -}}
{{- $_ := set $properties "sasl.mechanism" $kafka.sasl.mechanism -}}
{{- $_ := set $properties "sasl.username" (required "kafka.sasl.username: which user?" $kafka.sasl.username) -}}
{{- $_ := set $properties "sasl.password" (printf "file:/etc/caselock/kafka-password/%s" $kafka.sasl.password.key) -}}
{{- end -}}
{{- $table := dict "brokers" (required "kafka.brokers: which brokers? (host:port, several parted by commas)" $kafka.brokers) "topic_prefix" $kafka.topicPrefix "partitions" $kafka.partitions "single_node" $kafka.singleNode "properties" (merge (deepCopy (default dict $kafka.properties)) $properties) -}}
{{ include "caselock.toml" (dict "name" "kafka" "table" $table) }}
{{- end -}}

{{/* The keys of the store that a component has: its own, or those of all: (root, component). */}}
{{- define "caselock.s3Credentials" -}}
{{- $own := dig "s3Credentials" dict (index .root.Values .component) -}}
{{- toJson (ternary $own .root.Values.s3.credentials (ne (dig "name" "" $own) "")) -}}
{{- end -}}

{{/* (root, component) */}}
{{- define "caselock.s3" -}}
{{- $s3 := .root.Values.s3 -}}
{{- $credentials := include "caselock.s3Credentials" . | fromJson -}}
{{- $table := dict "bucket" $s3.bucket "prefix" $s3.prefix "region" $s3.region "endpoint" $s3.endpoint "ca" (ternary (printf "/etc/caselock/s3-ca/%s" $s3.ca.key) "" (ne $s3.ca.name "")) -}}
{{- if $credentials.name -}}
{{- $_ := set $table "access_key" (printf "file:/etc/caselock/s3/%s" $credentials.accessKey) -}}
{{- $_ := set $table "secret_key" (printf "file:/etc/caselock/s3/%s" $credentials.secretKey) -}}
{{- end -}}
{{ include "caselock.toml" (dict "name" "s3" "table" $table) }}
{{- end -}}

{{/* The secret with the collector's CA, where there is something to be known by it. */}}
{{- define "caselock.otlpCa" -}}
{{- if hasPrefix "https://" (default "" .Values.telemetry.otlpEndpoint) -}}{{ .Values.telemetry.otlpCa.name }}{{- end -}}
{{- end -}}

{{- define "caselock.telemetry" -}}
{{- $telemetry := .Values.telemetry -}}
{{ include "caselock.toml" (dict "name" "telemetry" "table" (dict "filter" $telemetry.filter "otlp_endpoint" $telemetry.otlpEndpoint "otlp_ca" (ternary (printf "/etc/caselock/otlp-ca/%s" $telemetry.otlpCa.key) "" (ne (include "caselock.otlpCa" .) "")) "trace_ratio" $telemetry.traceRatio)) }}
{{- end -}}

{{/* The files of a service: (root, component). */}}
{{- define "caselock.config" -}}
{{- $values := .root.Values -}}
{{- $served := dict "certificate" "/etc/caselock/tls/tls.crt" "key" "/etc/caselock/tls/tls.key" "client_ca" (printf "/etc/caselock/client-ca/%s" $values.tls.clientCa.key) -}}
{{- $own := dict -}}
{{- if eq .component "gateway" -}}
{{- $own = dict "tls" $served -}}
{{- else if eq .component "archiver" -}}
{{- $own = dict "signing_key" (printf "/etc/caselock/receipts/%s" $values.receipts.signingKey.key) -}}
{{- else if eq .component "registry" -}}
{{- $own = dict "tls" $served "database" (printf "file:/etc/caselock/database/%s" $values.registry.database.key) -}}
{{- end -}}
{{- $own = merge (deepCopy (default dict (index $values .component).settings)) $own -}}
{{ if $own }}{{ include "caselock.toml" (dict "name" .component "table" $own) }}{{ end }}
{{ include "caselock.kafka" .root }}
{{ if ne .component "gateway" }}{{ include "caselock.s3" . }}{{ end }}
{{ include "caselock.telemetry" .root }}
{{- end -}}

{{/* The secrets a component needs, as a list of (name, secret, items): (root, component). */}}
{{- define "caselock.secrets" -}}
{{- $values := .root.Values -}}
{{- $kafka := $values.kafka -}}
{{- $secrets := list -}}
{{- if and $kafka.tls.enabled $kafka.tls.ca.name -}}{{- $secrets = append $secrets (dict "name" "kafka-ca" "secret" $kafka.tls.ca.name) -}}{{- end -}}
{{- if and $kafka.tls.enabled $kafka.tls.clientSecret.name -}}{{- $secrets = append $secrets (dict "name" "kafka-client" "secret" $kafka.tls.clientSecret.name) -}}{{- end -}}
{{- if $kafka.sasl.enabled -}}{{- $secrets = append $secrets (dict "name" "kafka-password" "secret" (required "kafka.sasl.password.name: which secret has the password?" $kafka.sasl.password.name)) -}}{{- end -}}
{{- if not (has .component (list "gateway" "topics")) -}}{{- with (include "caselock.s3Credentials" . | fromJson).name -}}{{- $secrets = append $secrets (dict "name" "s3" "secret" .) -}}{{- end -}}{{- end -}}
{{- if and $values.s3.ca.name (not (has .component (list "gateway" "topics"))) -}}{{- $secrets = append $secrets (dict "name" "s3-ca" "secret" $values.s3.ca.name) -}}{{- end -}}
{{- if not (has .component (list "topics" "test")) -}}{{- with (include "caselock.otlpCa" .root) -}}{{- $secrets = append $secrets (dict "name" "otlp-ca" "secret" .) -}}{{- end -}}{{- end -}}
{{- if has .component (list "gateway" "registry") -}}
{{- $secrets = append $secrets (dict "name" "tls" "secret" (include "caselock.tlsSecret" .)) -}}
{{- $secrets = append $secrets (dict "name" "client-ca" "secret" (required "tls.clientCa.name: which secret has the CA of the bureaus' certificates?" $values.tls.clientCa.name)) -}}
{{- end -}}
{{- if eq .component "archiver" -}}{{- $secrets = append $secrets (dict "name" "receipts" "secret" (required "receipts.signingKey.name: which secret has the key that receipts are signed with?" $values.receipts.signingKey.name)) -}}{{- end -}}
{{- if eq .component "registry" -}}{{- $secrets = append $secrets (dict "name" "database" "secret" (required "registry.database.name: which secret has the address of the database?" $values.registry.database.name)) -}}{{- end -}}
{{- if and (eq .component "registry") $values.registry.database.ca.name -}}{{- $secrets = append $secrets (dict "name" "database-ca" "secret" $values.registry.database.ca.name) -}}{{- end -}}
{{- if and (eq .component "registry") $values.registry.database.clientSecret.name -}}{{- $secrets = append $secrets (dict "name" "database-client" "secret" $values.registry.database.clientSecret.name) -}}{{- end -}}
{{- toJson $secrets -}}
{{- end -}}

{{/* The secret with a server's certificate: (root, component). */}}
{{- define "caselock.tlsSecret" -}}
{{- $own := (index .root.Values .component).tlsSecret -}}
{{- if $own -}}{{ $own }}
{{- else if .root.Values.tls.certManager.enabled -}}{{ include "caselock.fullname" .root }}-{{ .component }}-tls
{{- else -}}{{ fail (printf "%s.tlsSecret: which secret has the server's certificate? Or set tls.certManager.enabled." .component) }}{{- end -}}
{{- end -}}
