# Set up the course from this folder, without a network:
#     powershell -ExecutionPolicy Bypass -File install.ps1
$python = if (Get-Command py -ErrorAction SilentlyContinue) { "py" } else { "python" }
& $python (Join-Path $PSScriptRoot "install_kit.py") $args
exit $LASTEXITCODE
