{{/* What the names of all objects begin with. */}}
{{- define "packhorse.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* What tells the pods of a component from all others: (dict "root" $ "component" "operator"). */}}
{{- define "packhorse.selectorLabels" -}}
app.kubernetes.io/name: packhorse
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of a component's pods: the same after an upgrade of the chart alone, which then restarts nothing. */}}
{{- define "packhorse.podLabels" -}}
{{ include "packhorse.selectorLabels" . }}
app.kubernetes.io/part-of: packhorse
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{/* Labels of every object: (dict "root" $ "component" "operator"). */}}
{{- define "packhorse.labels" -}}
{{ include "packhorse.podLabels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image's full reference: (dict "image" .Values.image "tag" "the tag where none is set"). */}}
{{- define "packhorse.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .tag }}
{{- end -}}
{{- end }}

{{/* Name of the Secret with the storage account's connection string; empty where none is linked. */}}
{{- define "packhorse.storageSecret" -}}
{{- if .Values.storage.existingSecret -}}
{{- if .Values.azurite.enabled -}}
{{- fail "storage.existingSecret links a storage account, and azurite.enabled asks for the embedded one as well. Set azurite.enabled=false." -}}
{{- end -}}
{{- .Values.storage.existingSecret -}}
{{- else if .Values.azurite.enabled -}}
{{- include "packhorse.fullname" . }}-azurite
{{- end -}}
{{- end }}

{{/* The parts of a pod's specification that both components have: (dict "root" $ "values" .Values). */}}
{{- define "packhorse.podScheduling" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The restricted Pod Security Standard, for a pod and for a container. */}}
{{- define "packhorse.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}
{{- define "packhorse.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
