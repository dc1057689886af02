$ErrorActionPreference = 'Stop'; $ProgressPreference = 'SilentlyContinue'
$mode = [string]$ExecutionContext.SessionState.LanguageMode
if ($mode -ne 'FullLanguage') { Write-Output ('{"t":"cannot","why":"mode","detail":"' + $mode + '"}'); exit 3 }
try {
  $class = $env:RDPBROKER_CLASS; if (-not $class) { $class = [Console]::In.ReadLine() }
  if (-not $class) { Write-Output '{"t":"cannot","why":"stdin"}'; exit 5 }
  $packed = New-Object IO.MemoryStream(, [Convert]::FromBase64String($class))
  $text = New-Object IO.StreamReader((New-Object IO.Compression.GZipStream($packed, [IO.Compression.CompressionMode]::Decompress)))
  Add-Type -IgnoreWarnings -TypeDefinition $text.ReadToEnd()
} catch {
  $text = [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes([string]$_))
  [Console]::Out.WriteLine('{"t":"cannot","why":"compile","base64":"' + $text + '"}'); exit 4
}
exit [RdpBrokerAgent]::Run($mode, $env:RDPBROKER_START)
