# lock.sh HOLDER NAME [again|DEAD]: an flock that lives as long as the shell of this connection. Status 75: somebody has it, who is
# told. Status 76: the holder itself has it, under another name of the host, which is told. A holder has words for people before a
# tab, if it has one. DEAD is who had it and is known to have been killed. The lock's file goes with it; so whoever gets the lock
# makes sure that it is still that of the file.
#
# lock.sh HOLDER NAME name|none: what stays behind for those who have been away, the holder's line or none. It is said under the lock,
# once those of all hosts are held: whoever is refused before that has done nothing. Prints which start of the host this is.
# lock.sh LINE NAME kept START: nobody has been here since, by that line and start. Status 79: somebody has, who is told.
shell=${RSADM_SHELL:?}
lock=/run/rsadm-lock/lock
# Who had it last.
last=/run/rsadm-last
# The machine's own, and that of the first process, since a container starts without its machine.
start() {
  local boot stat
  read -r boot </proc/sys/kernel/random/boot_id
  read -r stat </proc/1/stat
  # shellcheck disable=SC2086  # numbers
  set -- ${stat##*) }
  echo "$boot.${20}"
}
case ${3-} in
name) printf '%s\n' "$1" >$last && start; exit ;;
none) rm -f $last && start; exit ;;
kept)
  other=
  read -r other 2>/dev/null <$last
  [ "$other" != "$1" ] || exit 0
  # A start takes the line away, and a reset does.
  [ "$other" ] || [ "$(start)" = "$4" ] || exit 0
  other=${other%%$'\t'*}
  echo "${other:-a reset, which leaves no name}"
  exit 79 ;;
esac
# The shell that this run had before, where the network took it away and sshd here has not noticed: it makes room.
replace() {
  local holder pid name
  { read -r holder && read -r pid && read -r name; } <$lock && [ "$holder $name" = "$1 $2" ] || return
  is_shell "$pid" && kill -9 "$pid"
}
is_shell() { case $(tr '\0' ' ' <"/proc/$1/cmdline") in *' rsadm rsadm-'*) ;; *) return 1 ;; esac; }
# A shell whose run is dead ends with what it is at. A download, of a program or an image, may take much longer than all else,
# is of no use any more, and may be broken off at any moment: `timeout` ends its group with it.
hurry() {
  local holder pid child
  { read -r holder && read -r pid; } <$lock && [ "$holder" = "$1" ] && is_shell "$pid" || return
  for child in $(pgrep -P "$pid"); do
    case $(tr '\0' ' ' <"/proc/$child/cmdline") in
    "timeout -k 5 -- "*" bash -- /"*"/rsadm.$pid."*"/install "* | "timeout -k 5 -- "*" bash -- /"*"/rsadm.$pid."*"/pull "*) kill "$child" ;;
    esac
  done
}
hash flock 2>/dev/null || { echo "it has no flock (of util-linux)" >&2; exit 1; }
wait=1
for _ in {1..50}; do
  # Who lets go removes file and folder, maybe between two of our steps: then at once anew.
  { mkdir -p "${lock%/*}" && exec 9<>$lock; } 2>/dev/null || continue
  # One that was killed here is gone once a busy host gets round to it.
  ! replace "$@" 2>/dev/null || wait=5
  [ "${3:-again}" = again ] || hurry "$3" 2>/dev/null
  # The shell of a run that is over ends a little after it; more than that moment is no reason to wait.
  flock -w $wait 9
  status=$?
  [ /proc/self/fd/9 -ef $lock ] || continue
  [ $status = 0 ] && got=1 && break
  holder='' name=''
  { read -r holder && read -r _ && read -r name; } <&9
  [ $status = 1 ] && [ "$holder" = "$1" ] && [ "${name:-$2}" != "$2" ] && echo "$name" && exit 76
  # Who comes back only tells people.
  [ "${3-}" != again ] || holder=${holder%%$'\t'*}
  printf '%s\n' "$holder"
  [ $status = 1 ] && exit 75
  exit 1
done
[ "${got-}" ] || { mkdir -p "${lock%/*}" && : 9<>$lock && echo "$lock does not stay" >&2; exit 1; }
printf '%s\n' "$1" "$shell" "$2" > $lock
# It looks ten times a second, by a pipe that never has anything to read: no process is started for that.
setsid bash -c 'exec 8<> <(:); while kill -0 "$1" 2>/dev/null; do read -rt 0.1 -u 8; done; rm -rf /run/rsadm-lock' rsadm-lock "$shell" </dev/null >/dev/null 2>&1 &
