"""The provider `ccxt`: public trades of the exchanges that the library ccxt supports."""
