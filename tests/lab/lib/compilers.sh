# shellcheck shell=bash
# What compiles rsadm and the lab's programs: of Debian's packages where it has some, else with a word on what to do by hand. For
# tests/all, too.

# compilers STEP PROGRAM…: each of these, cargo and go, is there from here on. STEP NAME CMD… runs what installs a package. Where Debian
# has none, that is told, and this fails.
compilers() {
  local step=$1 program package code=0
  shift
  for program in "$@"; do
    ! "has_$program" || continue
    # shellcheck disable=SC2086  # a command and its first words
    if package=$(compiler_package "$program"); then $step "$package" compiler_install "$package"; fi
    "has_$program" || { compiler_by_hand "$program" >&2; code=1; }
  done
  return "$code"
}

# Where their installers put them, if PATH does not say. One that is too old may be in front.
has_cargo() { cargo_is_new || { PATH=$HOME/.cargo/bin:$PATH; cargo_is_new; }; }
cargo_is_new() { [[ $(cargo_version) =~ ^1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 89)); }
# Of rustup without a toolchain, none.
cargo_version() {
  local said
  said=$(cargo --version 2> /dev/null) && [[ $said =~ ^cargo\ ([^ ]+) ]] && printf '%s\n' "${BASH_REMATCH[1]}" || echo none
}
has_go() { go_is_new || { PATH=/usr/local/go/bin:/usr/lib/go-1.26/bin:$PATH; go_is_new; }; }
go_is_new() { [[ $(go_version) =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 26)); }
go_version() { GOTOOLCHAIN=local go env GOVERSION 2> /dev/null || echo none; }

# The package that brings it; fails where this Debian has none.
compiler_package() {
  local package
  case $1 in
    cargo) package=rustup ;;
    go) package=golang-1.26-go ;;
  esac
  apt-get update -q > /dev/null 2>&1 || true
  [[ $(LC_ALL=C apt-cache policy "$package" 2> /dev/null) == *"Candidate: "[0-9]* ]] && printf '%s\n' "$package"
}

compiler_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$1" || return
  [[ $1 != rustup ]] || rustup default stable
}

compiler_by_hand() {
  case $1 in
    cargo) printf '%s\n' "Rust 1.89 or newer is not on PATH (found: $(cargo_version)); Debian's package rustup (trixie and later) brings it (then: rustup default stable), or see https://rustup.rs" ;;
    go) printf '%s\n' "Go 1.26 or newer is not on PATH (found: $(go_version)); https://go.dev/dl has it (then: PATH=/usr/local/go/bin:\$PATH), newer Debian releases as golang-1.26-go (then: PATH=/usr/lib/go-1.26/bin:\$PATH). To build nothing: lab build --artifacts upstream" ;;
  esac
}
