# The image of a release: the static binary of the archives and what it needs of a
# system, which is certificates and /tmp. There is no shell in it.
#
#   make image
#   docker run -v /srv/data:/data -v multidb-state:/state -v ./multidb.yaml:/multidb.yaml:ro \
#       --stop-timeout 60 multidb replicate -config /multidb.yaml
#
# Run it as the user of the writers (--user), who can read and write the databases, their
# -wal and -shm. The state directory is a volume with mode 0700.

# Any image that has a shell and /etc/ssl/certs/ca-certificates.crt.
ARG CERTIFICATES=golang:1.26
FROM --platform=$BUILDPLATFORM $CERTIFICATES AS root
RUN mkdir -p /root-of-image/etc/ssl/certs /root-of-image/tmp && \
    cp /etc/ssl/certs/ca-certificates.crt /root-of-image/etc/ssl/certs/ && \
    chmod 1777 /root-of-image/tmp

FROM scratch
# Without a default, which would count for every platform: Docker takes it for a choice of ours.
ARG TARGETPLATFORM
COPY --from=root /root-of-image/ /
COPY $TARGETPLATFORM/multidb /multidb
USER 65532:65532
ENTRYPOINT ["/multidb"]
CMD ["help"]
