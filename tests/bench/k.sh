# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # files of one program use variables of one another
# (k) `lab demo` with everything cached, from no lab to five Ready nodes: what a person waits for who tries rsadm once more.

bench_k() {
  local demo=() n
  say "(k) lab demo with everything cached"
  measure "$LAB" demo
  for n in 1 2 3; do
    "$LAB" down >> "$work/log" 2>&1
    quiet
    measure "$LAB" demo
    demo+=("$took")
  done
  "$LAB" down >> "$work/log" 2>&1
  result "lab demo" "$(median "${demo[@]}") s (${demo[*]})"
  goal "lab demo, seconds" "$(median "${demo[@]}")" 180
}
