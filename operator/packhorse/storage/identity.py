"""The operator's own identity in Azure: its service account's token, exchanged for one of Microsoft Entra ID."""

import re
from functools import cache
from typing import Any

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import AzureError, ServiceRequestError, ServiceResponseError

from packhorse.storage.errors import ACCESS_DENIED, UNREACHABLE, NotLinkedError, UnavailableError


@cache
def workload_identity() -> TokenCredential:
    """The identity that Azure Workload Identity gives this pod. Raises NotLinkedError where it gives none."""
    # Only who has no key needs it, and it takes 20 MiB.
    from azure.identity import WorkloadIdentityCredential  # noqa: PLC0415

    try:
        credential = WorkloadIdentityCredential(connection_timeout=5, read_timeout=20, retry_total=2)
    except ValueError:
        raise NotLinkedError(
            "the storage account is linked by workload identity, but the operator's pod has none: label the pod"
            " azure.workload.identity/use=true and annotate its service account with"
            " azure.workload.identity/client-id, as the chart does for storage.workloadIdentity; on clusters other than"
            " AKS, install the azure-workload-identity webhook first"
        ) from None
    return ExplainedCredential(credential)


class ExplainedCredential:
    """A credential whose failures tell of Microsoft Entra ID, and not of the storage account."""

    def __init__(self, credential: TokenCredential) -> None:
        self._credential = credential

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """A token. Raises UnavailableError."""
        try:
            return self._credential.get_token(*scopes, **options)
        except (ServiceRequestError, ServiceResponseError):
            message = "Microsoft Entra ID, which knows the operator's identity, cannot be reached; check the network"
            raise UnavailableError(UNREACHABLE, message) from None
        except (AzureError, OSError, ValueError) as error:
            code = re.search(r"AADSTS\d{3,9}", str(error))
            raise UnavailableError(
                ACCESS_DENIED,
                f"Microsoft Entra ID gives the operator no token ({code[0] if code else type(error).__name__}); check"
                " the client ID on its service account, and the identity's federated credential: its issuer and its"
                " subject, system:serviceaccount:NAMESPACE:NAME",
            ) from None
