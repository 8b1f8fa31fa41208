@echo off
rem Set up the course from this folder, without a network: a double click is enough.
py "%~dp0install_kit.py" %*
if errorlevel 9009 python "%~dp0install_kit.py" %*
pause
