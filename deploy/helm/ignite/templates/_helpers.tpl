{{/* Name of the operator's objects: one operator a release. */}}
{{- define "ignite.operator" -}}
{{- if contains "ignite" .Release.Name }}{{ .Release.Name | trunc 48 | trimSuffix "-" }}{{ else }}{{ printf "%s-ignite" (.Release.Name | trunc 41 | trimSuffix "-") }}{{ end }}-operator
{{- end }}

{{- define "ignite.selector" -}}
app.kubernetes.io/name: ignite-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ignite.labels" -}}
{{ include "ignite.selector" . }}
app.kubernetes.io/part-of: ignite
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image's reference: (list IMAGE DEFAULT-TAG). */}}
{{- define "ignite.image" -}}
{{- $image := index . 0 -}}
{{- if hasPrefix "sha256:" $image.tag }}{{ $image.repository }}@{{ $image.tag }}{{ else }}{{ $image.repository }}:{{ $image.tag | default (index . 1) }}{{ end }}
{{- end }}
