# shellcheck shell=bash disable=SC2154
# What the steps are written with, beside tests/support/steps.sh. Sourced by run.sh, which sets WORDS, work, tree, here
# and build.

# shellcheck disable=SC2034 # for steps.sh
AREA=host
# shellcheck source=/dev/null
. "$here/../support/steps.sh"

make_install() {
    make -s -C "$tree" -f Makefile.install install DESTDIR="$MACHINE" PREFIX=/usr BUILD="$build"
}
make_uninstall() {
    make -s -C "$tree" -f Makefile.install uninstall DESTDIR="$MACHINE" PREFIX=/usr
}
