#!/usr/bin/env bash
# Runs LocalStack, an emulation of AWS, in Docker for this example:
#
#   eval "$(examples/with_s3/setup_localstack.sh start)"
#   go run ./examples/with_s3
#   examples/with_s3/setup_localstack.sh stop
#
# What start prints on stdout is for eval; all the rest goes to stderr. Where
# there is no Docker, setup_versitygw.sh needs only Go.
set -euo pipefail

# Pinned: images since March 2026 do not start without a LocalStack account.
image=${LOCALSTACK_IMAGE:-localstack/localstack:4.4.0}
name=${LOCALSTACK_CONTAINER:-multidb-localstack}
bucket=${LITESTREAM_S3_BUCKET:-multidb}
region=${AWS_REGION:-us-east-1}
port=${LOCALSTACK_PORT:-4566}

say() { printf '%s\n' "$*" >&2; }
die() { say "setup_localstack.sh: $*"; exit 1; }

usage() {
	cat <<'USAGE'
usage: setup_localstack.sh start | stop

  start  start LocalStack on 127.0.0.1, create the bucket, print the exports to use
  stop   remove the container, and the objects with it

environment: LITESTREAM_S3_BUCKET (default multidb), AWS_REGION (us-east-1),
  LOCALSTACK_PORT (4566), LOCALSTACK_CONTAINER (multidb-localstack),
  LOCALSTACK_IMAGE, LOCALSTACK_AUTH_TOKEN (newer images ask for one)
USAGE
}

need_docker() {
	command -v docker >/dev/null ||
		die "the docker command is missing: install Docker, or use setup_versitygw.sh, which needs only Go"
	docker info >/dev/null 2>&1 ||
		die "the Docker daemon does not answer: start it, or use setup_versitygw.sh, which needs only Go"
}

is_running() { [[ $(docker inspect -f '{{.State.Running}}' "$name" 2>/dev/null) == true ]]; }

# healthy tells whether LocalStack says that its S3 can be used. It asks inside
# the container, where curl is certain to be.
healthy() {
	docker exec "$name" curl -sf -m 2 http://localhost:4566/_localstack/health 2>/dev/null |
		grep -Eq '"s3": *"(available|running)"'
}

start() {
	need_docker
	if is_running; then
		say "container $name runs already; $0 stop removes it"
		port=$(docker port "$name" 4566/tcp | sed -n '1s/.*://p')
	else
		docker rm -f "$name" >/dev/null 2>&1 || true
		say "starting $image as $name"
		docker run -d --name "$name" -p "127.0.0.1:$port:4566" \
			-e SERVICES=s3 -e LOCALSTACK_AUTH_TOKEN "$image" >/dev/null ||
			die "docker run failed; if port $port is taken, set LOCALSTACK_PORT"
	fi

	local i
	for ((i = 0; i < 90; i++)); do
		healthy && break
		is_running || die "LocalStack ended: $(docker logs --tail 5 "$name" 2>&1)"
		sleep 1
	done
	healthy || die "LocalStack is not healthy after 90 s: docker logs $name"

	if ! docker exec "$name" awslocal s3api head-bucket --bucket "$bucket" >/dev/null 2>&1; then
		docker exec "$name" awslocal s3 mb "s3://$bucket" --region "$region" >&2 ||
			die "cannot create bucket $bucket"
	fi

	say "LocalStack answers on http://127.0.0.1:$port, bucket $bucket"
	# A session token of another account would be sent along.
	printf 'unset AWS_SESSION_TOKEN AWS_PROFILE\n'
	printf 'export LITESTREAM_S3_BUCKET=%q\n' "$bucket"
	printf 'export LITESTREAM_S3_ENDPOINT=%q\n' "http://127.0.0.1:$port"
	printf 'export AWS_ACCESS_KEY_ID=test\n'
	printf 'export AWS_SECRET_ACCESS_KEY=test\n'
	printf 'export AWS_REGION=%q\n' "$region"
}

case ${1:-} in
start) start ;;
stop)
	need_docker
	docker rm -f "$name" >/dev/null 2>&1 || true
	say "container $name removed"
	;;
-h | --help | help) usage ;;
*)
	usage >&2
	exit 2
	;;
esac
