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

{{/* Name of the Secret that links the storage account; empty where none does. */}}
{{- define "packhorse.storageSecret" -}}
{{- if .Values.storage.existingSecret -}}
{{- .Values.storage.existingSecret -}}
{{- else if .Values.azurite.enabled -}}
{{- include "packhorse.fullname" . }}-azurite
{{- end -}}
{{- end }}

{{/* Fails where the values of the storage account contradict each other. */}}
{{- define "packhorse.checkStorage" -}}
{{- $storage := .Values.storage -}}
{{- $identity := $storage.workloadIdentity -}}
{{- $annotated := get .Values.serviceAccount.annotations "azure.workload.identity/client-id" -}}
{{- if and $storage.existingSecret $storage.account -}}
{{- fail "storage.existingSecret and storage.account both link a storage account. Set one of them." -}}
{{- end -}}
{{- range $name := list "existingSecret" "account" -}}
{{- if and (get $storage $name) $.Values.azurite.enabled -}}
{{- fail (printf "storage.%s links a storage account, and azurite.enabled asks for the embedded one as well. Set azurite.enabled=false." $name) -}}
{{- end -}}
{{- end -}}
{{- if and $storage.account (not $identity.enabled) -}}
{{- fail "storage.account has no key: it is used by Azure Workload Identity. Set storage.workloadIdentity.enabled=true and storage.workloadIdentity.clientId, or put a connection string into a Secret and name that in storage.existingSecret." -}}
{{- end -}}
{{- if and $identity.enabled (not $storage.account) (not $storage.existingSecret) -}}
{{- fail "storage.workloadIdentity.enabled is set, and no account is named that it is for. Set storage.account." -}}
{{- end -}}
{{- if and $identity.enabled (not $identity.clientId) (not $annotated) -}}
{{- fail "storage.workloadIdentity.enabled needs the managed identity's client id. Set storage.workloadIdentity.clientId." -}}
{{- end -}}
{{- if and $identity.clientId (not $identity.enabled) -}}
{{- fail "storage.workloadIdentity.clientId is of no use without storage.workloadIdentity.enabled=true." -}}
{{- end -}}
{{- if and $identity.clientId $annotated (ne $identity.clientId $annotated) -}}
{{- fail "storage.workloadIdentity.clientId and the annotation azure.workload.identity/client-id in serviceAccount.annotations differ. Remove one of them." -}}
{{- end -}}
{{- end }}

{{/* Annotations of the operator's service account. */}}
{{- define "packhorse.serviceAccountAnnotations" -}}
{{- $annotations := dict -}}
{{- with .Values.storage.workloadIdentity.clientId -}}
{{- $_ := set $annotations "azure.workload.identity/client-id" . -}}
{{- end -}}
{{- with merge $annotations .Values.serviceAccount.annotations -}}
{{- toYaml . -}}
{{- end -}}
{{- end }}

{{/* Labels of the operator's pod. */}}
{{- define "packhorse.operatorPodLabels" -}}
{{- $labels := include "packhorse.podLabels" (dict "root" . "component" "operator") | fromYaml -}}
{{- if .Values.storage.workloadIdentity.enabled -}}
{{- $_ := set $labels "azure.workload.identity/use" "true" -}}
{{- end -}}
{{- merge $labels .Values.podLabels | toYaml -}}
{{- end }}

{{/* What binds an admission policy to the namespaces that are served; nothing where all are. */}}
{{- define "packhorse.servedNamespaces" -}}
{{- with .Values.watchNamespaces -}}
matchResources:
  namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values:
          {{- toYaml . | nindent 10 }}
{{- end -}}
{{- end }}

{{/* Annotations of what works after an uninstall, in the order of the given weight, and goes when it is done. */}}
{{- define "packhorse.uninstallHook" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
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
