# The one image of Packhorse: the operator, and what runs on a pool's nodes.
#
# Every Debian 12 will do as the base. It builds with BuildKit and with Docker's classic builder, and needs no network for
# Python's packages when a folder wheels/ with the wheels of requirements.lock (and pip's own) lies beside this file.
ARG BASE=debian:bookworm-slim@sha256:7b140f374b289a7c2befc338f42ebe6441b7ea838a042bbd5acbfca6ec875818

FROM ${BASE} AS dependencies
RUN set -eu; \
    if ! command -v python3 >/dev/null || ! [ -x /bin/busybox ]; then \
      apt-get update; \
      apt-get install --yes --no-install-recommends python3 python3-pip busybox-static; \
    fi
COPY requirements.lock wheels* /build/
RUN set -eu; \
    if ls /build/*.whl >/dev/null 2>&1; then \
      export PIP_NO_INDEX=1 PIP_FIND_LINKS=/build; \
    fi; \
    pip="$(ls /build/pip-*.whl 2>/dev/null || true)"; \
    PYTHONPATH="$pip" python3 -m pip install --no-cache-dir --no-compile --disable-pip-version-check --require-hashes \
      --target /packages --requirement /build/requirements.lock; \
    find /packages -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +; \
    rm -rf /packages/bin; \
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /packages; \
    mkdir /commands; \
    for command in packhorse=cli packhorse-operator=operator packhorse-node=node; do \
      printf '#!/usr/bin/env python3\nimport sys\n\nfrom packhorse.%s.main import main\n\nsys.exit(main())\n' \
        "${command#*=}" \
        > "/commands/${command%=*}"; \
    done; \
    chmod 0755 /commands/*

FROM dependencies AS package
COPY operator/packhorse /package/packhorse
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /package

FROM ${BASE}
RUN set -eu; \
    if ! command -v python3 >/dev/null; then \
      apt-get update; \
      apt-get install --yes --no-install-recommends python3; \
      rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*; \
    fi; \
    echo 'packhorse:x:65532:65532:Packhorse:/tmp:/usr/sbin/nologin' >> /etc/passwd; \
    echo 'packhorse:x:65532:' >> /etc/group
COPY --from=dependencies /packages /usr/lib/packhorse/python
COPY --from=dependencies /bin/busybox /usr/lib/packhorse/busybox
COPY --from=dependencies /commands /usr/bin
# Nothing is ever written next to the sources, so the root file system may be read-only.
ENV PYTHONPATH=/usr/lib/packhorse/python PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
# The product itself comes last: a change in it makes this layer alone anew.
COPY --from=package /package /usr/lib/packhorse/python
USER 65532:65532
ENTRYPOINT ["packhorse-operator"]
