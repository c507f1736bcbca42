# What runs on a host, under bash, for as long as the connection stands: it does one operation after the other and
# answers each. `opening.rs` sends this text once per shell; `frame.rs` writes the requests and reads the answers:
#
#   request:  VERB INDEX LIMIT BYTES WORDS \n, then WORDS times (LENGTH \n, that many bytes), then BYTES bytes of data
#   ping:     ping 0 0 0 0 \n, which has no answer
#   answer:   NONCE INDEX STATUS OUT ERR \n, then OUT and ERR bytes, then NONCE . \n
#
# Short data without a NUL comes as a word instead: bash can write that to a file without starting a process. Words
# never reach the arguments of a process, save those of the command that is asked for.
#
# Requests and data share standard input. That is sound because bash reads a pipe no further than it must (by the
# byte, or the very number asked for), `head -c` reads exactly its number, and nothing else may read it at all: what
# unpacks or keeps data reads from `head`.
# Forks are what costs time here, so builtins do what they can.
nonce=$1
# A caller says something every 20 seconds; one who is silent for four times as long is gone, whatever sshd still believes, in
# the middle of what he sends as between two requests. With the shell ends what it holds. Data may come slowly, so it
# is waited for in slices: each takes two processes, and 3 kB/s are enough.
silence=80
slice=262144
# For words that no answer takes along.
exec 3>&2
# Scripts may want to know by what to tell that this connection's shell still lives.
export RSADM_SHELL=$$
unset -v BASH_ENV ENV CDPATH
umask 022
cd /

# Output is kept in files while a command runs, so that nothing it starts can write between the frames.
# /run is memory on every systemd host: what passes here never reaches a disk.
open_spool() {
  local base=/run
  [[ -d $base && -w $base ]] || base=/tmp
  sweep "$base/rsadm"
  spool=$(mktemp -d -- "$base/rsadm.$$.XXXXXX") || exit 70
  trap 'rm -rf -- "$spool" ${pending:+"$pending"}' EXIT
  # Where it is full, empty answers would be all that comes back.
  { printf '%65536s' '' >"$spool/out"; } 2>/dev/null && return
  echo "no room in $base, where answers are kept meanwhile: df -h $base" >&2
  exit 70
}

# Removes what killed shells left behind: PREFIX.PID.RANDOM, ours, where no such process lives.
sweep() {
  local left pid
  for left in "$1".[0-9]*.*; do
    pid=${left#"$1".} pid=${pid%%.*}
    [[ -O $left && ! -L $left && ! -e /proc/$pid ]] && rm -rf -- "$left"
  done
}

# The request's data. A slice that does not come is waited for in vain, and the stream is of no use any more.
take() {
  local left size
  for ((left = bytes; left > 0; left -= size)); do
    ((size = left < slice ? left : slice))
    timeout "$silence" head -c "$size" || return
  done
}

# The request's data into FILE. tee reads all of it even where FILE takes no more, or the next request would be lost.
receive() {
  if ((bytes == 0)); then
    : >"$1"
    return
  fi
  local size came
  take | tee -- "$1" >/dev/null
  came=("${PIPESTATUS[@]}")
  ((came[0] == 0)) || lost
  ((came[1] == 0)) && size=$(stat -c %s -- "$1") || return
  ((size == bytes)) && return
  echo "$size of $bytes bytes arrived" >&2
  return 1
}

# Reads the request's data and forgets it.
skip_data() {
  take >/dev/null || lost
}

# Nobody knows where the next request begins.
lost() {
  echo "no more of the data came within $silence s" >&3
  exit 1
}

# Makes FOLDER with MODE, and what is missing above it with 0755, or 0700 where that is PRIVATE or inside it.
make_folder() {
  local folder=$1 mode=$2 private=$3
  [[ -d ${folder:-/} ]] && return
  make_folder "${folder%/*}" 0755 "$private" || return
  [[ $folder/ == "$private"/* ]] && mode=0700
  mkdir -m "$mode" -- "$folder" || [[ -d $folder ]]
}

# do_put PATH MODE SHA256 FOLDER_MODE PRIVATE [TEXT]: the whole new file or the old one, whatever happens, power loss
# included.
do_put() {
  local path=$1 mode=$2 sum=$3 folder=${1%/*}
  if ! make_folder "$folder" "$4" "$5"; then
    skip_data
    return 1
  fi
  sweep "$folder/.rsadm"
  pending=$folder/.rsadm.$$.$RANDOM
  if new_file "$pending" "${@:6}" && has_sum "$pending" "$sum" &&
    { [[ $mode == 0600 ]] || chmod -- "$mode" "$pending"; } && own "$pending" &&
    sync -- "$pending" && mv -fT -- "$pending" "$path"; then
    pending=
    return 0
  fi
  rm -f -- "$pending"
  pending=
  return 1
}

# new_file FILE [TEXT]: nobody else can read it, and nobody else made it.
new_file() {
  local made
  umask 077
  set -C
  : >"$1"
  made=$?
  set +C
  umask 022
  if ((made != 0)); then
    skip_data
    return 1
  fi
  if (($# == 2)); then
    printf %s "$2" >"$1"
  else
    receive "$1"
  fi
}

has_sum() {
  local sum
  sum=$(sha256sum <"$1") || return
  [[ $sum == "$2  -" ]] && return
  echo "what arrived has SHA-256 ${sum%% *}, what was sent has $2" >&2
  return 1
}

# A new file is root's already, save in a folder that gives its files its own group.
own() {
  [[ -O $1 && -G $1 ]] || chown 0:0 -- "$1"
}

# do_run and do_script: LIMIT seconds, then SIGTERM to the command and its children, 5 seconds later SIGKILL.
limited() {
  local began=$SECONDS status
  timeout -k 5 -- "$limit" "$@"
  status=$?
  ((status == 137 && SECONDS - began >= ${limit%.*})) && status=124
  return "$status"
}

do_run() {
  ((bytes == 0)) && { limited "$@" </dev/null; return; }
  receive "$spool/in" && feed "$@"
}

# What the input file holds may be secret, and is gone as soon as it was read.
feed() {
  limited "$@" <"$spool/in"
  local status=$?
  : >"$spool/in"
  return "$status"
}

# do_feed TEXT WORD …: runs the words with the text as their input.
do_feed() {
  printf %s "$1" >"$spool/in" || return
  shift
  feed "$@"
}

# do_script NAME TEXT [ARGUMENT …]
do_script() {
  local file=$spool/$1
  printf %s "$2" >"$file" || return
  shift 2
  limited bash -- "$file" "$@" </dev/null
}

# do_packed NAME [ARGUMENT …]: the same with the text as data, compressed; all of it is read whatever becomes of the file.
do_packed() {
  local file=$spool/$1 came
  shift
  timeout "$silence" head -c "$bytes" | { { gzip -d >"$file"; } || { cat >/dev/null; false; }; }
  came=("${PIPESTATUS[@]}")
  ((came[0] == 0)) || lost
  ((came[1] == 0)) || return
  limited bash -- "$file" "$@" </dev/null
}

# do_read PATH: status 1 says that there is none.
do_read() {
  [[ -e $1 ]] || { echo "$1: no such file" >&2; return 1; }
  cat -- "$1" </dev/null || return 2
}

# answer INDEX STATUS: the frame for what the spool holds, of standard error no more than its end.
answer() {
  local text out err
  if small_text "$spool/out"; then
    out=$text
    if small_text "$spool/err"; then
      err=$text
      ((${#err} <= 16384)) || err=${err: -16384}
      printf '\n%s %s %s %s %s\n%s%s%s .\n' "$nonce" "$1" "$2" "${#out}" "${#err}" "$out" "$err" "$nonce"
      return
    fi
  fi
  tail -c 16384 -- "$spool/err" >"$spool/tail"
  local sizes
  mapfile -t sizes < <(stat -c %s -- "$spool/out" "$spool/tail")
  printf '\n%s %s %s %s %s\n' "$nonce" "$1" "$2" "${sizes[0]}" "${sizes[1]}"
  cat -- "$spool/out" "$spool/tail"
  printf '%s .\n' "$nonce"
}

# small_text FILE: sets `text` to all of FILE without a fork, if it is below 64 KiB and holds no NUL; `read` then comes
# to the end of the file and says so.
small_text() {
  text=
  [[ ! -s $1 ]] || ! IFS= read -r -d "" -n 65536 text <"$1"
}

# do_refuse STATUS TEXT: what could not be asked for, such as a word with a NUL in it.
do_refuse() {
  skip_data
  echo "$2" >&2
  return "$1"
}

# The words of a request, into `words`.
read_words() {
  local length word
  words=()
  for ((; $1 > ${#words[@]}; )); do
    read -r -t "$silence" length || exit
    word=
    if ((length > 0)); then
      IFS= read -r -t "$silence" -N "$length" word || exit
    fi
    words+=("$word")
  done
}

# Every request until the stream ends. `batch` starts a list of them: after the first that fails the rest is read
# and passed over, unless all are to be done. `end` says that the list is through. A caller who has nothing to ask
# says `ping` now and then.
serve() {
  local verb index limit bytes count words keep_going=0 failed=0 status
  while read -r -t "$silence" verb index limit bytes count; do
    read_words "$count"
    case $verb in
      batch) keep_going=$index failed=0 && continue ;;
      ping) continue ;;
      end) printf '\n%s end\n' "$nonce" && continue ;;
    esac
    if ((failed && !keep_going)); then
      skip_data
      continue
    fi
    "do_$verb" "${words[@]}" >"$spool/out" 2>"$spool/err"
    status=$?
    ((status == 0)) || failed=1
    answer "$index" "$status"
  done
}

open_spool
serve
