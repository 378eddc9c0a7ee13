# What bash offers behind "spyglass", where bash-completion loads it. Made by packaging/manual.

# Offers the names of the apps that there are. Only what can be a name: bash runs what stands in $(...) when it splits words for compgen -W,
# and again when what is offered is entered.
_spyglass_apps()
{
    local file name LC_ALL=C
    for file in @DIRECTORY@/*.toml; do
        name=${file##*/}
        name=${name%.toml}
        [[ $name =~ ^[a-z0-9][a-z0-9_-]*$ && $name == "$cur"* ]] && COMPREPLY+=("$name")
    done
}

# _spyglass_offer KIND: what a value or argument of this kind may be, "|words" for those words.
_spyglass_offer()
{
    case $1 in
        app) _spyglass_apps ;;
        file) _filedir ;;
        directory) _filedir -d ;;
        source) _filedir '@(py|wsgi)' ;;
        toml) _filedir toml ;;
        'app or source')
            _filedir '@(py|wsgi)'
            _spyglass_apps
            ;;
        '|'*) COMPREPLY=($(compgen -W "${1#|}" -- "$cur")) ;;
    esac
}

_spyglass()
{
    local cur prev words cword split
    _init_completion -s -n : || return

    local command=${words[1]} options='' valued='' kinds=()
    if ((cword == 1)); then
        COMPREPLY=($(compgen -W '@COMMANDS@ --help --version' -- "$cur"))
        return
    fi
    # options: all there are; valued: those that take a value; kinds: of the arguments, one each, "..." for more of the last.
    case $command in
@OPTIONS@
        *) return ;;
    esac

    if [[ $valued == *" $prev "* ]]; then
        case "$command $prev" in
@VALUES@
        esac
        return
    fi
    $split && return
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options --help" -- "$cur"))
        return
    fi

    local index=2 argument=0
    while ((index < cword)); do
        case ${words[index]} in
            -*) [[ $valued != *" ${words[index]} "* ]] || ((index++)) ;;
            *) ((argument++)) ;;
        esac
        ((index++))
    done
    if ((${#kinds[@]})) && ((argument >= ${#kinds[@]} - 1)) && [[ ${kinds[-1]} == ... ]]; then
        argument=$((${#kinds[@]} - 2))
    fi
    _spyglass_offer "${kinds[argument]-}"
} && complete -F _spyglass spyglass

# ex: filetype=sh
