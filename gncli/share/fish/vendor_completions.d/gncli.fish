# Suggestions of gncli for fish. Try them in this shell:
#
#     gncli completion fish | source
#
# To have them in every shell:
#
#     mkdir -p ~/.config/fish/completions
#     gncli completion fish > ~/.config/fish/completions/gncli.fish

function _gncli_completion
    set -l answer (env _GNCLI_COMPLETE=fish_complete COMP_WORDS=(commandline -cp | string collect) \
        COMP_CWORD=(commandline -ct | string collect) gncli 2>/dev/null </dev/null)
    for line in $answer
        printf '%s\n' (string split -m 1 , -- $line)[2]
    end
end

complete --no-files --command gncli --arguments "(_gncli_completion)"
