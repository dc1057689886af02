// What bootstrap.ps1 does, without PowerShell: takes the line with the class, and runs it.
public static class Program
{
    public static int Main()
    {
        System.Console.In.ReadLine();
        return RdpBrokerAgent.Run("FullLanguage");
    }
}
