{{/* The release's name; short enough for what is put behind it. */}}
{{- define "seatkeeper.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "seatkeeper.headless" -}}
{{ include "seatkeeper.name" . }}-nodes
{{- end }}

{{/* What follows a pod's name in its DNS name. */}}
{{- define "seatkeeper.domain" -}}
{{ include "seatkeeper.headless" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{- define "seatkeeper.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "seatkeeper.labels" -}}
{{ include "seatkeeper.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "seatkeeper.bind" -}}
{{ if contains ":" .Values.bindAddress }}[{{ .Values.bindAddress }}]{{ else }}{{ .Values.bindAddress }}{{ end }}
{{- end }}

{{/* The config of all nodes; what differs between them comes from the pod's environment. */}}
{{- define "seatkeeper.config" -}}
cluster_name: {{ .Values.clusterName | default (include "seatkeeper.name" .) }}
data_dir: /var/lib/seatkeeper/data
api:
  bind: {{ printf "%s:7800" (include "seatkeeper.bind" .) | quote }}
raft:
  bind: {{ printf "%s:7801" (include "seatkeeper.bind" .) | quote }}
gossip:
  bind: {{ printf "%s:7802" (include "seatkeeper.bind" .) | quote }}
bootstrap_expect: {{ .Values.nodes }}
{{- if gt (int .Values.nodes) 1 }}
join:
{{- range $i := until (int .Values.nodes) }}
  - {{ include "seatkeeper.name" $ }}-{{ $i }}.{{ include "seatkeeper.domain" $ }}:7802
{{- end }}
{{- end }}
{{- with .Values.trustedKeys }}
trusted_keys:
{{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.tls.enabled }}
tls:
  cert: /etc/seatkeeper/tls/tls.crt
  key: /etc/seatkeeper/tls/tls.key
  ca: /etc/seatkeeper/tls/ca.crt
  client_certs: {{ .Values.tls.clientCerts }}
  peer_name: {{ .Values.tls.peerName }}
{{- end }}
acl:
  required: {{ .Values.acl.required }}
insecure: {{ .Values.insecure }}
log:
  format: json
{{- end }}
