$ErrorActionPreference = 'Stop'; $ProgressPreference = 'SilentlyContinue'
$mode = [string]$ExecutionContext.SessionState.LanguageMode
if ($mode -ne 'FullLanguage') { Write-Output ('{"t":"cannot","why":"mode","detail":"' + $mode + '"}'); exit 3 }
try {
  $class = [Console]::In.ReadLine()
  if (-not $class) { Write-Output '{"t":"cannot","why":"stdin"}'; exit 5 }
  Add-Type -IgnoreWarnings -TypeDefinition ([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($class)))
} catch {
  $text = [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes([string]$_))
  [Console]::Out.WriteLine('{"t":"cannot","why":"compile","base64":"' + $text + '"}'); exit 4
}
exit [RdpBrokerAgent]::Run($mode)
