# Runs tasks in the user's container for the agent, which is in another one. POSIX sh, on a static busybox of our own,
# so that any image will do. The agent asks by lines in the FIFO "requests":
#   run KEY              start the script KEY/launch in a session of its own, unless that was done before
#   signal KEY SIGNAL    send a signal to every process of that attempt, wherever it has gone
#   forget KEY           remove what is left of that attempt's folder
# KEY/exit is then a symbolic link to the exit code, or to "lost" where nobody can tell it, and KEY is written to the
# FIFO "results". Neither a link nor an empty file needs room, so that this works on a full disk too ("true >FILE"
# makes an empty file; if it could not, ":" would end this shell). Tasks can write to both FIFOs as well: a line begins
# with a line end, which closes what they left open.
# usage: sh supervisor ROOT
run=$1/.packhorse/run
bb=$1/.packhorse/bin/busybox

tell() { # LINE
    echo "
$1" >&4
}

finish() { # KEY CODE
    if [ -e "$run/stopping" ]; then set -- "$1" lost; fi
    until [ -L "$run/$1/exit" ] || [ -e "$run/$1/exit" ] || "$bb" ln -s "$2" "$run/$1/exit"; do
        [ -d "$run/$1" ] || return # the agent has forgotten it
        "$bb" sleep 1
    done
    tell "$1"
}

attempt() { # KEY
    set -C # so that of two requests one alone can make the file
    if ! { true >"$run/$1/started"; } 2>/dev/null; then
        set +C
        [ -e "$run/$1/started" ] || finish "$1" lost
        return
    fi
    set +C
    "$bb" setsid "$bb" sh "$run/$1/launch" 3<&- 4<&- &
    leader=$!
    wait "$leader"
    code=$?
    kill -s KILL -- "-$leader" 2>/dev/null # what it left behind in its process group
    finish "$1" "$code"
}

lost() { # KEY; its processes ended with the container that was here before
    "$bb" rm -rf "$run/$1/exit"
    "$bb" ln -s lost "$run/$1/exit" # one try: nothing may hold up the start
    tell "$1"
}

forget() { # KEY
    "$bb" chmod -R u+rwX "$run/$1"/* "$run/$1"/.[!.]* 2>/dev/null # the folder itself is the agent's, mostly
    "$bb" rm -rf "$run/$1"
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
    true >"$run/stopping"
    signal "" TERM
    # As long as they take: the kubelet ends them and this after terminationGracePeriodSeconds.
    while [ -n "$(processes "")" ]; do "$bb" sleep 0.1; done
    exit 0
}
trap stop TERM INT

until [ -p "$run/requests" ] && [ -p "$run/results" ]; do
    echo "waiting for the agent to make the FIFOs in $run anew, which a task has removed" >&2
    "$bb" sleep 1
done
exec 3<>"$run/requests" 4<>"$run/results"
"$bb" rm -rf "$run/stopping" "$run/booted"
for folder in "$run"/*/; do
    [ -d "$folder" ] || continue
    key=${folder%/}
    key=${key##*/}
    case $key in
    aside-*) forget "$key" & ;; # the agent found it in its way
    *) [ -L "$folder/exit" ] || lost "$key" ;;
    esac
done
until true >"$run/booted"; do "$bb" sleep 1; done
tell booted
while :; do
    read -r verb key name <&3 && [ -n "$key" ] || continue
    case $verb in
    run) [ -L "$run/$key/exit" ] || attempt "$key" & ;;
    signal) signal "$key" "$name" & ;;
    forget) forget "$key" & ;;
    esac
done
