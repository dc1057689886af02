// What bootstrap.ps1 does, without PowerShell: takes the class from where it comes, and runs it.
public static class Program
{
    public static int Main()
    {
        if (System.Environment.GetEnvironmentVariable("RDPBROKER_CLASS") == null) System.Console.In.ReadLine();
        return RdpBrokerAgent.Run("FullLanguage", System.Environment.GetEnvironmentVariable("RDPBROKER_START"));
    }
}
