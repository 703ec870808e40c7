# Runs tasks in the user's container for the agent, which is in another one. POSIX sh, on a static busybox of our own,
# so that any image will do. The agent asks by lines in the FIFO "requests":
#   run KEY              start the script KEY/launch in a session of its own, unless that was done before
#   signal KEY SIGNAL    send a signal to every process of that attempt, wherever it has gone
# KEY/exit then holds the exit code, or "lost" where nobody can tell it, and KEY is written to the FIFO "results".
# usage: sh supervisor ROOT
run=$1/.packhorse/run
bb=$1/.packhorse/bin/busybox

finish() { # KEY CODE
    if [ -e "$run/stopping" ]; then set -- "$1" lost; fi
    until echo "$2" >"$run/$1/exit.new" && "$bb" mv "$run/$1/exit.new" "$run/$1/exit"; do
        [ -d "$run/$1" ] || return # the agent has forgotten it
        "$bb" sleep 1              # a full disk has room again some day
    done
    echo "$1" >&4
}

attempt() { # KEY
    set -C # so that of two requests one alone can make the file
    { echo >"$run/$1/started"; } 2>/dev/null || return
    set +C
    "$bb" setsid "$bb" sh "$run/$1/launch" 3<&- 4<&- &
    leader=$!
    wait "$leader"
    code=$?
    kill -s KILL -- "-$leader" 2>/dev/null # what it left behind in its process group
    finish "$1" "$code"
}

processes() { # KEY, or nothing for all attempts
    "$bb" grep -lszF ${1:+-x} "PACKHORSE_ATTEMPT=$1" /proc/[0-9]*/environ
}

signal() { # KEY SIGNAL
    tries=0
    while found=$(processes "$1"); [ -n "$found" ] && [ "$tries" -lt 100 ]; do
        for environment in $found; do
            process=${environment#/proc/}
            kill -s "$2" "${process%/environ}" 2>/dev/null
        done
        [ "$2" = KILL ] || break
        tries=$((tries + 1)) # again: they may have started others meanwhile
    done
}

stop() {
    : >"$run/stopping"
    signal "" TERM
    tries=0
    while [ -n "$(processes "")" ] && [ "$tries" -lt 100 ]; do
        "$bb" sleep 0.1
        tries=$((tries + 1))
    done
    exit 0
}
trap stop TERM INT

exec 3<>"$run/requests" 4<>"$run/results"
"$bb" rm -f "$run/stopping"
for folder in "$run"/*/; do
    [ -d "$folder" ] || continue
    key=${folder%/}
    [ -e "$folder/exit" ] || finish "${key##*/}" lost # its processes ended with the container that was here before
done
: >"$run/booted"
echo booted >&4
while :; do
    read -r verb key name <&3 && [ -n "$key" ] || continue
    case $verb in
    run) [ -e "$run/$key/exit" ] || attempt "$key" & ;;
    signal) signal "$key" "$name" & ;;
    esac
done
