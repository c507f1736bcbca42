# lock.sh HOLDER NAME [again|all|DEAD]: an flock that lives as long as the shell of this connection. Status 75: somebody has it, who
# is told. Status 76: the holder itself has it, under another name of the host, which is told. Status 79: it is to be had again,
# and somebody else had it meanwhile, who is told. `all` is said once it holds those of all hosts: before that it does nothing, and
# whoever comes back to his own need not mind. A holder has words for people before a tab, if it has one. DEAD is who had it and is
# known to have been killed. The lock's file goes with it; so whoever gets the lock makes sure that it is still that of the file.
shell=${RSADM_SHELL:?}
lock=/run/rsadm-lock/lock
# Who had it last stays behind, for those who have been away.
last=/run/rsadm-last
if [ "${3-}" = all ]; then printf '%s\n' "$1" > $last; exit; fi
# The shell that this run had before, where the network took it away and sshd here has not noticed: it makes room.
replace() {
  local holder pid name
  { read -r holder && read -r pid && read -r name; } <$lock && [ "$holder $name" = "$1 $2" ] || return
  ! is_shell "$pid" || kill -9 "$pid"
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
for _ in {1..50}; do
  # Who lets go removes file and folder, maybe between two of our steps: then at once anew.
  { mkdir -p "${lock%/*}" && exec 9<>$lock; } 2>/dev/null || continue
  replace "$@" 2>/dev/null
  [ "${3:-again}" = again ] || hurry "$3" 2>/dev/null
  # The shell of a run that is over ends a little after it; more than that moment is no reason to wait.
  flock -w 1 9
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
if [ "${3-}" = again ] && read -r other 2>/dev/null <$last && [ "$other" != "$1" ]; then
  rm -rf "${lock%/*}"
  echo "${other%%$'\t'*}"
  exit 79
fi
printf '%s\n' "$1" "$shell" "$2" > $lock
# It looks ten times a second, by a pipe that never has anything to read: no process is started for that.
setsid bash -c 'exec 8<> <(:); while kill -0 "$1" 2>/dev/null; do read -rt 0.1 -u 8; done; rm -rf /run/rsadm-lock' rsadm-lock "$shell" </dev/null >/dev/null 2>&1 &
