#!/usr/bin/env bash
# PostgreSQL and pgvector, which the tests of the gallery start a server of: from Debian's packages, as root.
#
# Nothing is done where both are there. Debian 12 has PostgreSQL 15 but no pgvector: there, pgvector's source package of
# Debian 13 is compiled for it.
set -euo pipefail
say() { printf '[pgvector] %s\n' "$*"; }
packages() { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }
newest() { find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -n | tail -n 1; }

version=$(newest)
if [ -n "$version" ] && [ -x "/usr/lib/postgresql/$version/bin/initdb" ] &&
  [ -e "/usr/share/postgresql/$version/extension/vector.control" ]; then
  exit 0
fi
apt-get update
if ! [ -x "/usr/lib/postgresql/${version:-none}/bin/initdb" ]; then
  packages postgresql
  version=$(newest)
fi
if [ -n "$(apt-cache madison "postgresql-$version-pgvector" 2>/dev/null)" ]; then
  packages "postgresql-$version-pgvector"
  exit 0
fi

# --- Compiled from Debian 13's source --------------------------------------------------------------------------------
say "Debian has no postgresql-$version-pgvector here: compiling the one of Debian 13"
command -v gcc >/dev/null || packages gcc libc6-dev
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
mkdir -p lists/partial sources
# The mirror this machine already uses.
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "bookworm" {print $2; exit}')
[ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
  awk '$1 == "bookworm" {print $2; exit}')
if [ -z "$mirror" ]; then
  say "no mirror of Debian 12 is configured: install pgvector for PostgreSQL $version by hand"
  exit 1
fi
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >sources/trixie.list
from=(-o "Dir::State::lists=$folder/lists" -o "Dir::Etc::sourceparts=$folder/sources" -o Dir::Etc::sourcelist=/dev/null)
apt-get "${from[@]}" update
apt-get "${from[@]}" source --download-only pgvector
apt-get download "postgresql-server-dev-$version"
dpkg -x "postgresql-server-dev-$version"_*.deb headers # the package itself would bring all of clang
mkdir source
tar xzf pgvector_*.orig.tar.gz -C source --strip-components 1
cd source
# The flags of its Makefile, less -march=native.
gcc -O2 -w -fPIC -shared -ftree-vectorize -fassociative-math -fno-signed-zeros -fno-trapping-math -fno-math-errno \
  -I"../headers/usr/include/postgresql/$version/server" src/*.c -o vector.so -lm
number=$(sed -n "s/^default_version = '\(.*\)'/\1/p" vector.control)
cp sql/vector.sql "/usr/share/postgresql/$version/extension/vector--$number.sql"
install -m 644 vector.so "/usr/lib/postgresql/$version/lib/vector.so"
cp vector.control "/usr/share/postgresql/$version/extension/vector.control" # last: it says that all is there
say "pgvector $number is installed for PostgreSQL $version"
