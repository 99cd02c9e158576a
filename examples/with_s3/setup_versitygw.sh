#!/usr/bin/env bash
# Runs versitygw, an S3 server over a plain folder, for this example:
#
#   eval "$(examples/with_s3/setup_versitygw.sh start)"
#   go run ./examples/with_s3
#   examples/with_s3/setup_versitygw.sh stop
#
# It needs Go and nothing else. What start prints on stdout is for eval; all the
# rest goes to stderr.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/../.." && pwd)

usage() {
	cat <<'USAGE'
usage: setup_versitygw.sh start [-p PORT] [-b BUCKET] [-r REGION]
       setup_versitygw.sh stop | status | clean | install

  start    install versitygw if it is missing, start it on 127.0.0.1, create the
           bucket, print the exports to use; if it runs already, print them again
  stop     end the server that start began; the objects stay
  status   say whether it runs, and where
  clean    stop, then remove the objects
  install  only install versitygw, and print its path

  -p PORT    port to listen on       (default: a free one)
  -b BUCKET  bucket to create        (default: multidb)
  -r REGION  region of the server    (default: us-east-1)

environment:
  VERSITYGW_KEEP_KEYS  1: the server takes AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
                     as its credentials; otherwise start makes up new ones, so that
                     real ones stay out of it
  VERSITYGW          path of a versitygw to use instead of installing one
  VERSITYGW_DIR      folder for objects, log and pid (default: bin/versitygw-run)
  VERSITYGW_VERSION  version to install (default: the one in tools/versions.env)
USAGE
}

say() { printf '%s\n' "$*" >&2; }
die() { say "setup_versitygw.sh: $*"; exit 1; }

dir=${VERSITYGW_DIR:-$root/bin/versitygw-run}
pidfile=$dir/pid envfile=$dir/env logfile=$dir/log objects=$dir/objects sidecar=$dir/sidecar

# install sets $versitygw to the path of the program, installing it if need be.
install() {
	if [[ -n ${VERSITYGW:-} ]]; then
		[[ -x $VERSITYGW ]] || die "VERSITYGW=$VERSITYGW is not a program"
		versitygw=$VERSITYGW
		return
	fi
	local version=${VERSITYGW_VERSION:-}
	if [[ -z $version ]]; then
		version=$(sed -n 's/^VERSITYGW_VERSION=//p' "$root/tools/versions.env") || die "cannot read tools/versions.env"
	fi
	local bin=$root/bin/versitygw-$version
	versitygw=$bin/versitygw
	[[ -x $versitygw ]] && return
	command -v go >/dev/null || die "Go is needed to install versitygw: https://go.dev/dl"
	say "installing versitygw $version (a few minutes, once)"
	GOBIN=$bin go install "github.com/versity/versitygw/cmd/versitygw@$version" >&2 ||
		die "go install of versitygw $version failed"
}

# random N prints N random hexadecimal digits.
random() { od -An -N"$(($1 / 2))" -tx1 /dev/urandom | tr -d ' \n'; }

# answers PORT tells whether something accepts connections there.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# running tells whether the recorded process lives and is still the server that
# start began: a pid may since belong to something else.
running() {
	[[ -s $pidfile ]] || return 1
	local pid
	pid=$(<"$pidfile")
	[[ $pid =~ ^[0-9]+$ ]] && kill -0 "$pid" 2>/dev/null || return 1
	if [[ -r /proc/$pid/cmdline ]]; then
		tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF -- "$objects"
	else
		ps -p "$pid" -o args= | grep -qF -- "$objects"
	fi
}

# await PORT PID waits, for 20 s at most, until the server answers.
await() {
	local i
	for ((i = 0; i < 200; i++)); do
		kill -0 "$2" 2>/dev/null || return 1
		answers "$1" && return 0
		sleep 0.1
	done
	return 1
}

# launch PORT starts the server and waits for it. The credentials go by the
# environment: the command line is there for everyone to read.
launch() {
	local port=$1
	# The sidecar folder makes it work where the file system has no extended attributes.
	ROOT_ACCESS_KEY=$key ROOT_SECRET_KEY=$secret nohup \
		"$versitygw" --port "127.0.0.1:$port" --region "$region" --quiet \
		posix --sidecar "$sidecar" "$objects" >"$logfile" 2>&1 </dev/null &
	local pid=$!
	printf '%s\n' "$pid" >"$pidfile"
	await "$port" "$pid" && return 0
	kill "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	rm -f "$pidfile"
	return 1
}

start() {
	local port='' bucket=multidb region=us-east-1 opt
	while getopts 'p:b:r:' opt; do
		case $opt in
		p) port=$OPTARG ;;
		b) bucket=$OPTARG ;;
		r) region=$OPTARG ;;
		*) usage >&2; exit 2 ;;
		esac
	done
	[[ -z $port || ($port =~ ^[1-9][0-9]{0,4}$ && $port -le 65535) ]] || die "-p $port is not a port"
	[[ $bucket =~ ^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$ ]] || die "-b $bucket is not a bucket name"

	if running; then
		say "versitygw runs already (pid $(<"$pidfile")); $0 stop ends it"
		cat "$envfile"
		return
	fi
	install
	mkdir -p "$objects/$bucket" "$sidecar"

	local key secret
	if [[ ${VERSITYGW_KEEP_KEYS:-} == 1 ]]; then
		key=${AWS_ACCESS_KEY_ID:?} secret=${AWS_SECRET_ACCESS_KEY:?}
	else
		key=$(random 20) secret=$(random 40)
	fi

	if [[ -n $port ]]; then
		answers "$port" && die "port $port is taken; choose another with -p"
		launch "$port" || die "versitygw did not start on port $port: $(tail -n 5 "$logfile")"
	else
		local try started=
		for ((try = 0; try < 5; try++)); do
			port=$((20000 + RANDOM % 12000))
			answers "$port" && continue
			if launch "$port"; then
				started=1
				break
			fi
		done
		[[ -n $started ]] || die "versitygw did not start: $(tail -n 5 "$logfile" 2>/dev/null)"
	fi

	# A session token of another account would be sent along and refused.
	(
		umask 077
		{
			printf 'unset AWS_SESSION_TOKEN AWS_PROFILE\n'
			printf 'export LITESTREAM_S3_BUCKET=%q\n' "$bucket"
			printf 'export LITESTREAM_S3_ENDPOINT=%q\n' "http://127.0.0.1:$port"
			printf 'export AWS_ACCESS_KEY_ID=%q\n' "$key"
			printf 'export AWS_SECRET_ACCESS_KEY=%q\n' "$secret"
			printf 'export AWS_REGION=%q\n' "$region"
		} >"$envfile"
	)
	say "versitygw answers on http://127.0.0.1:$port (pid $(<"$pidfile")), bucket $bucket, objects in $objects"
	cat "$envfile"
}

stop() {
	if ! running; then
		rm -f "$pidfile" "$envfile"
		say "versitygw is not running"
		return
	fi
	local pid i
	pid=$(<"$pidfile")
	kill "$pid"
	for ((i = 0; i < 100; i++)); do
		running || break
		sleep 0.1
	done
	if running; then
		say "versitygw (pid $pid) did not end within 10 s; killing it"
		kill -KILL "$pid"
	fi
	rm -f "$pidfile" "$envfile"
	say "versitygw (pid $pid) stopped; its objects are in $objects"
}

case ${1:-} in
start)
	shift
	start "$@"
	;;
stop) stop ;;
status)
	running || { say "versitygw is not running"; exit 1; }
	say "versitygw runs (pid $(<"$pidfile")), objects in $objects"
	cat "$envfile"
	;;
clean)
	stop
	rm -rf -- "$objects" "$sidecar" "$logfile"
	say "objects removed"
	;;
install)
	install
	printf '%s\n' "$versitygw"
	;;
-h | --help | help) usage ;;
*)
	usage >&2
	exit 2
	;;
esac
