# Installs packages whose services must not run: packages::install() gives this to a shell of root.
#
# Debian's packages of PostgreSQL and etcd start services. While they are installed services are forbidden and
# PostgreSQL's own cluster isn't made; afterwards the services are disabled, with any kind of init. Nothing is left of
# what is written for this, however it ends.
set -eu

log=$(mktemp)
made=$log
trap 'rm -f $made' EXIT
trap 'exit 1' HUP INT TERM

make() {
    made="$made $1"
    mkdir -p "${1%/*}"
    printf "$2" > "$1"
}

disable() {
    systemctl disable --quiet "$1.service" || :
    deb-systemd-helper disable "$1.service" || :
    update-rc.d "$1" disable || :
} > /dev/null 2>&1

make /etc/postgresql-common/createcluster.d/primacy-lab.conf 'create_main_cluster = false\n'
# One of ours is here if an earlier run was killed; others, such as those in images of containers, stay.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ] || grep -qs '^# primacy-lab' $policy; then
    make $policy '#!/bin/sh\n# primacy-lab: no services while its packages are installed\nexit 101\n'
    chmod 755 $policy
fi

apt-get -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 install -q -y --no-install-recommends "$@" > "$log" 2>&1 || {
    tail -n 15 "$log" >&2
    exit 1
}

case " $* " in *" postgresql-15 "*) disable postgresql ;; esac
case " $* " in *" etcd-server "*) disable etcd ;; esac
