@echo off
rem Set up the course from this folder, without a network: a double click is enough.
set run=python
for %%v in (3.11 3.12 3.13) do py -%%v -c "" >nul 2>&1 && set run=py -%%v
%run% "%~dp0install_kit.py" %*
pause
